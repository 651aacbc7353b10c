"""Answers about an image's class and the right names come in; the share that mentions the right one goes out."""

import re
from collections.abc import Sequence

from octavius.instruction.sample import ClassName
from octavius.metrics.accuracy import ShareOfRight
from octavius.metrics.pairs import check_pairs
from octavius.metrics.published.synonyms import MENTIONED, singulars

_WORD = re.compile(r"n't\b|[^\W_]+(?:-[^\W_]+)*")
YES_OR_NO = frozenset({"yes", "no"})


class AnyMention(ShareOfRight):
    """The share of texts that mention their class anywhere, as the published 2D evaluation counts.

    The key is acc1_any_mention. A class is mentioned by its name or a word of `MENTIONED`, in singular or plural, or
    by an answer that is nothing else: an answer that lists all classes is right. Where the names are yes and no, a
    text means no if it holds the word `no` or `not`, and yes otherwise: also an empty text, or garbage, means yes.
    """

    def __init__(self) -> None:
        """Starts from no answers."""
        super().__init__("acc1_any_mention")

    def update(self, predictions: Sequence[str | None], golds: Sequence[ClassName]) -> None:
        """Adds one text, or None for an empty one, for each gold."""
        check_pairs(predictions, golds, ClassName)
        self.count(self.is_right(*pair) for pair in zip(predictions, golds, strict=True))

    def is_right(self, prediction: str | None, gold: ClassName) -> bool:
        """Whether a text mentions the class; none is an empty text."""
        return mentions(prediction or "", gold)


def mentions(text: str, gold: ClassName) -> bool:
    """Whether a text names the class, as the published evaluation reads it.

    >>> mentions("Two grey cars, or a dog.", ClassName("dog", ("dog", "cat")))
    True
    >>> mentions("?", ClassName("yes", ("yes", "no")))
    True
    """
    said = text.lower().strip()
    words = _WORD.findall(said)
    if set(gold.names) == YES_OR_NO:
        return gold.name == ("no" if {"no", "not"} & set(words) else "yes")
    name = gold.name.lower()
    right = {name, *MENTIONED.get(name, ())}
    return said.strip(" .") in right or any(not right.isdisjoint(singulars(word)) for word in words)
