"""Exact match of answers to open questions against several accepted answers."""

import re
from collections.abc import Sequence

from octavius.instruction.sample import References
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records, mean
from octavius.metrics.reporting import Weigh, shares

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
# Typos in ScanQA and SQA3D, spellings of o'clock, and number words, as normalised by LEO's evaluator.
_SPELLINGS = {str(number): word for number, word in enumerate(_NUMBERS.split())} | {
    "23": "twenty-three",
    "none": "zero",
    "backwards": "backward",
    "oclock": "o'clock",
    "behine": "behind",
    "chai": "chair",
    "let": "left",
    "letf": "left",
    "rght": "right",
    "rigth": "right",
    "tehre": "there",
    "tv": "TV",  # upper case, so that em1_refined does not find it inside other words
    "wasing": "washing",
    "waslked": "walked",
}
_WORD = re.compile(r"\b\w+\b")
_DROPPED = re.compile(r"[^a-z0-9,'\s:-]+")
_CLOCK = re.compile(r"\bo' +clock\b")
_NUMBERED = re.compile(r"\b([a-z]+)[0-9]\b")  # mat2: the second mat of a scene
_ARTICLE = re.compile(r"\b(?:a|an|the) (?=[a-z])", re.IGNORECASE)


GRADES = ("em1", "em1_normalised", "em1_refined")
"""The keys, from strictest to most lenient."""


class ExactMatch(Records):
    """Whether an answer is one of the accepted ones, in three grades, from strict to lenient.

    - em1: the same string, as in ScanQA's evaluator.
    - em1_normalised: the same after `normalised`, which is what LEO's evaluator and later ones call EM.
    - em1_refined: after `normalised` and without spaces, one contains the other: LEO's refined EM. It is
      lenient: a list of all answers is right, and "no" is in "brown". An answer that is empty after
      normalisation is wrong here, while in LEO's evaluator it matches everything.

    A prediction of None is wrong. Without any update the values are nan, since nothing was measured. The records say
    of each answer whether it is right, by grade.
    """

    columns = ("em1", "em1_refined")
    headline = "em1"

    def update(self, predictions: Sequence[str | None], golds: Sequence[References]) -> None:
        """Adds one answer, or None, per gold."""
        check_pairs(predictions, golds, References)
        self.records += [matches(said, gold.texts) for said, gold in zip(predictions, golds, strict=True)]

    def compute(self) -> dict[str, float]:
        """The keys em1, em1_normalised and em1_refined, from 0 to 1."""
        return {key: mean([grades[index] for grades in self.records]) for index, key in enumerate(GRADES)}

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """The three weighted fractions."""
        rows = [matches(said, gold.texts) for said, gold in zip(predictions, golds, strict=True)]
        return shares({key: [float(row[index]) for row in rows] for index, key in enumerate(GRADES)})


def matches(answer: str | None, right: Sequence[str]) -> tuple[bool, bool, bool]:
    """Whether an answer is right: exactly, normalised, refined.

    >>> matches("The Brown Table.", ["table", "brown table"])
    (False, True, True)
    >>> matches("brown", ["brown table"])
    (False, False, True)
    """
    if answer is None:
        return False, False, False
    exact = answer in right
    said, texts = normalised(answer), [normalised(text) for text in right]
    equal = exact or bool(said and said in texts)
    packed = ["".join(text.split()) for text in (said, *texts)]
    holds = any(text in packed[0] or packed[0] in text for text in packed[1:] if text and packed[0])
    return exact, equal, equal or holds


def normalised(text: str) -> str:
    """Normalises case, punctuation, articles, numbers and known typos.

    The rules are those of LEO's evaluator (embodied-generalist, `clean_answer`), so that scores are
    comparable.

    >>> normalised("On the rigth of a chair, 2 chairs!")
    'on right of chair, two chairs'
    """
    kept = _DROPPED.sub("", text.lower())
    spelled = _WORD.sub(lambda word: _SPELLINGS.get(word[0], word[0]), kept)
    singular = _NUMBERED.sub(r"\1", _CLOCK.sub("o'clock", spelled))
    return " ".join(_ARTICLE.sub("", " ".join(singular.split())).split())
