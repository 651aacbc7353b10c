"""Checks of the arguments of `update`, and tokenisation of captions with their references."""

from collections.abc import Sequence
from typing import TypeAlias

from octavius.instruction.sample import References
from octavius.metrics.captions.ngrams import ptb_tokens

Tokens: TypeAlias = list[str]


def check_pairs(predictions: Sequence[object], golds: Sequence[object], *kinds: type) -> None:
    """Checks that there are as many predictions as golds, and that all golds have a supported type.

    Raises:
        ValueError: otherwise.

    >>> check_pairs([None], [References(("a dog",))], References)
    """
    if len(predictions) != len(golds):
        raise ValueError(
            f"a metric needs one prediction for each gold, but update() got {len(predictions)} predictions "
            f"and {len(golds)} golds; an answer that could not be parsed is None, it is not left out"
        )
    for index, gold in enumerate(golds):
        if not isinstance(gold, kinds):
            raise ValueError(
                f"gold {index} is a {type(gold).__name__}, but this metric scores "
                f"{' or '.join(kind.__name__ for kind in kinds)}; check the metrics of the task"
            )


def caption_tokens(
    predictions: Sequence[str | None], golds: Sequence[References], tokenize: bool
) -> list[tuple[Tokens, list[Tokens]]]:
    """The tokens of each predicted text (none if it is None) and of each of its references.

    >>> caption_tokens([None], [References(("A dog.", "dogs"))], tokenize=True)
    [([], [['a', 'dog'], ['dogs']])]
    """
    check_pairs(predictions, golds, References)
    for index, gold in enumerate(golds):
        if not gold.texts:
            raise ValueError(f"gold {index} has no reference text; a caption is compared with at least one")
    split = ptb_tokens if tokenize else str.split
    return [
        (split(text or ""), [split(reference) for reference in gold.texts])
        for text, gold in zip(predictions, golds, strict=True)
    ]
