"""Captions that name class and colour of an object, and the tokenizer for them."""

from collections.abc import Callable, Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, UNSEEN_CLASSES
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.vocabulary import build_tokenizer

NAMES = (*CLASSES, *UNSEEN_CLASSES)
"""All classes; the class labels of views are indices into this list."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "both": (
        "{a} {colour} {name}",
        "a photo of {a} {colour} {name}",
        "a photo of a {colour} {name}.",
        "a point cloud model of a {colour} {name}.",
        "the {name} is {colour}",
        "this is {a} {colour} {name}.",
    ),
    "class": (
        "{a} {name}",
        "{name}",
        "a photo of a {name}.",
        "a point cloud model of a {name}.",
        "a photo of {a} {name}",
        "this is {a} {name}.",
    ),
    "colour": (
        "{colour}",
        "{colour} furniture",
        "{a} {colour} thing",
        "a photo of {a} {colour} object",
        "it is {colour}",
    ),
}
"""Caption templates by what they mention.

Some have "a" for `{a}` even before vowels, like the usual templates of zero-shot classification.
"""

PROMPTS = {
    "class": ("a photo of a {name}.", "a point cloud model of a {name}."),
    "colour": ("a photo of {a} {colour} object", "{a} {colour} thing"),
}
"""Prompts for zero-shot classification."""


def sentence(form: str, name: str = "", colour: str = "") -> str:
    """Fills in a template; `{a}` becomes "a" or "an".

    >>> sentence("{a} {colour} {name}", "chair", "orange")
    'an orange chair'
    """
    first = colour if "{colour}" in form.split("{a}")[-1] else name
    return form.format(a="an" if first[:1] in "aeiou" else "a", name=name, colour=colour)


def prompts(tokenize: Callable[[list[str]], Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Token ids (S, C, T) of S zero-shot prompts for each class (key `class`) and each colour (key `colour`).

    Args:
        tokenize: maps sentences to ids (N, T).
        names: the candidate classes.
    """

    def ids(rows: list[list[str]]) -> Tensor:
        flat = tokenize([text for row in rows for text in row])
        return flat.reshape(len(rows), len(rows[0]), -1)

    return {
        "class": ids([[sentence(form, name=name) for name in names] for form in PROMPTS["class"]]),
        "colour": ids([[sentence(form, colour=colour) for colour in COLOURS] for form in PROMPTS["colour"]]),
    }


def vocabulary() -> PreTrainedTokenizerFast:
    """The tokenizer of the captions: one token per word, including the names of held-out classes."""
    lines = [
        sentence(form, name, colour)
        for forms in TEMPLATES.values()
        for form in forms
        for name in NAMES
        for colour in COLOURS
    ]
    return build_tokenizer([text for line in lines for text in (line, f" {line}")])
