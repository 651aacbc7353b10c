"""Answers to open questions and all that are right come in; the share that is equal to a right one goes out."""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from octavius.instruction.sample import References
from octavius.metrics.pairs import check_pairs
from octavius.metrics.reporting import Weigh, shares

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
# Slips of the pen in ScanQA and SQA3D, one clock, and words that mean one number: what LEO's evaluator evens out.
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
    "tv": "TV",  # in capitals it is found inside no other word
    "wasing": "washing",
    "waslked": "walked",
}
_WORD = re.compile(r"\b\w+\b")
_DROPPED = re.compile(r"[^a-z0-9,'\s:-]+")
_CLOCK = re.compile(r"\bo' +clock\b")
_NUMBERED = re.compile(r"\b([a-z]+)[0-9]\b")  # mat2: the second mat of a scene
_ARTICLE = re.compile(r"\b(?:a|an|the) (?=[a-z])", re.IGNORECASE)


GRADES = ("em1", "em1_normalised", "em1_refined")
"""The keys, from the strictest to the laxest."""


class ExactMatch(Metric):
    """Whether an answer is one of the right ones, in three grades, each at most as strict as the one before.

    - em1: the same string, letter by letter, as ScanQA's evaluator has it.
    - em1_normalised: the same after `normalised`, which is what LEO's evaluator and those after it call EM.
    - em1_refined: after `normalised`, and blanks aside, one holds the other: LEO's refined EM. It is lax: a
      list of all answers is right, and "no" is in "brown". An answer of which nothing is left is wrong here,
      where LEO's finds it in every right one.

    A prediction of None is wrong. Without any update the values are nan, because nothing was measured.

    Attributes:
        right: (3,) answers that are right, by grade.
        answers: how many predictions were scored.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    columns = ("em1", "em1_refined")
    headline = "em1"

    right: Tensor
    answers: Tensor

    def __init__(self) -> None:
        """Starts from no answers."""
        super().__init__()
        self.add_state("right", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("answers", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str | None], golds: Sequence[References]) -> None:
        """Adds one answer, or None, for each gold."""
        check_pairs(predictions, golds, References)
        for prediction, gold in zip(predictions, golds, strict=True):
            self.right += torch.tensor(matches(prediction, gold.texts), device=self.device)
        self.answers += len(golds)

    def compute(self) -> dict[str, Tensor]:
        """The keys em1, em1_normalised and em1_refined, fractions of 1."""
        total = self.answers.item()
        values = [count / total if total else math.nan for count in self.right.tolist()]
        return {
            key: torch.tensor(value, device=self.device) for key, value in zip(GRADES, values, strict=True)
        }

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[References]) -> Weigh:
        """The three shares, by how often each answer counts."""
        rows = [matches(said, gold.texts) for said, gold in zip(predictions, golds, strict=True)]
        return shares({key: [float(row[place]) for row in rows] for place, key in enumerate(GRADES)})


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
    """An answer without what does not matter: case, punctuation, articles, digits or words, known slips.

    The rules are those of LEO's evaluator (embodied-generalist, `clean_answer`), so that scores compare.

    >>> normalised("On the rigth of a chair, 2 chairs!")
    'on right of chair, two chairs'
    """
    kept = _DROPPED.sub("", text.lower())
    spelled = _WORD.sub(lambda word: _SPELLINGS.get(word[0], word[0]), kept)
    singular = _NUMBERED.sub(r"\1", _CLOCK.sub("o'clock", spelled))
    return " ".join(_ARTICLE.sub("", " ".join(singular.split())).split())
