"""An answer in free words comes in; the boxes or the option that the published evaluation finds in it go out.

Source: the rules of the LAMM benchmark's metrics, written down from its published code (`detection.py`, `vqa.py`).
They read what a model says after LAMM's own instruction data; a short answer such as `dog [..]` holds no box to them.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase as LETTERS

from octavius.instruction.sample import LabelledBox

_EDGE = r"\s?([\d.]{1,20})"
_BOX = re.compile(rf"\[{_EDGE},{_EDGE},{_EDGE},{_EDGE}\s?\]")
_CATEGORY = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"The (.*?)object",
        r"classified as(.*?)(?: is| and| within|\.|,)",
        r"categorized as(.*?)(?: can| at|\.|,)",
        r"belong(?:s|ing) to the category of(.*?)(?: at|\.|,)",
        r"belong(?:s|ing) to the (.*) category",
        r"falls under the category of(.*?)(?:\.|,)",
        r"falls under the (.*) category",
        r"its category is(.*?)(?:\.|,)",
    )
)
"""Tried in this order; the last one that is found names the class."""

_LONGEST = 2000
"""Letters of a sentence that are looked at: no true one is as long, and patterns must not take minutes."""


def sentence_boxes(text: str) -> list[tuple[LabelledBox, int]]:
    """Each box with its class, one a sentence at most, and the number of `]` up to its end.

    A box may be outside the image and have no size, but its corners are in order. Labels are as they were said.
    """
    found, closed = [], 0
    for piece in text.split(". "):
        sentence = f"{piece[:_LONGEST].strip().rstrip('.')}."
        match = _BOX.search(sentence)
        label = category(sentence)
        box = None if match is None else _floats(match.groups())
        if match is not None and label and box is not None and box[0] <= box[2] and box[1] <= box[3]:
            found.append((LabelledBox(label, box), closed + sentence.count("]", 0, match.end())))
        closed += piece.count("]")
    return found


def category(sentence: str) -> str:
    """The class that a sentence names; nothing for none."""
    named = ""
    for pattern in _CATEGORY:
        if match := pattern.search(sentence):
            named = match[1].strip()
    return named


def option(text: str, options: Sequence[str]) -> int | None:
    """The place of the option that the first rule which finds anything says, or None.

    The rules: every `answer is X`; the first `ANSWER: X`; every `(X)`; the one option whose words are in the text. A
    rule that finds several letters says none of them.
    """
    every = re.findall(r"[Tt]he answer is \(?([A-E])\)?\W", text)
    first = re.findall(r"ANSWER: ([A-E])", text)[:1]
    letters = every or first or re.findall(r"\(([A-E])\)", text)
    if letters:
        place = LETTERS.index(letters[0])
        return place if len(set(letters)) == 1 and place < len(options) else None
    found = [place for place, said in enumerate(options) if said.lower() in text.lower()]
    return found[0] if len(found) == 1 else None


def _floats(words: Sequence[str]) -> tuple[float, float, float, float] | None:
    try:
        x1, y1, x2, y2 = map(float, words)
    except ValueError:  # such as 0.1.2
        return None
    return x1, y1, x2, y2
