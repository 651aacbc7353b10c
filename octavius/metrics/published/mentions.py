"""Accuracy of the published 2D evaluation: a text is right if it mentions the class anywhere."""

import re
from collections.abc import Sequence

from octavius.instruction.sample import ClassName
from octavius.metrics.accuracy import ShareOfRight
from octavius.metrics.pairs import check_pairs
from octavius.metrics.published.synonyms import MENTIONED, singulars

_WORD = re.compile(r"n't\b|[^\W_]+(?:-[^\W_]+)*")
YES_OR_NO = frozenset({"yes", "no"})


class AnyMention(ShareOfRight):
    """Fraction of texts that mention their class anywhere, as counted by the published 2D evaluation.

    The key is acc1_any_mention. A class counts as mentioned if its name or a synonym of `MENTIONED` occurs as
    a word, singular or plural, or is the whole answer; so an answer that lists all classes is right. If the
    names are yes and no, a text means no if it contains `no` or `not`, and yes otherwise, even if it is empty
    or garbage.
    """

    def __init__(self) -> None:
        """Starts without answers."""
        super().__init__("acc1_any_mention")

    def update(self, predictions: Sequence[str | None], golds: Sequence[ClassName]) -> None:
        """Adds one text, or None for an empty one, per gold."""
        check_pairs(predictions, golds, ClassName)
        self.records += [self.is_right(*pair) for pair in zip(predictions, golds, strict=True)]

    def is_right(self, prediction: str | None, gold: ClassName) -> bool:
        """Whether a text mentions the class; None counts as an empty text."""
        return mentions(prediction or "", gold)


def mentions(text: str, gold: ClassName) -> bool:
    """Whether a text mentions the class under the published rules.

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
