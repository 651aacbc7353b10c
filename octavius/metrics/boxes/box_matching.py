"""Recall and precision of boxes under one-to-one matching."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from octavius.boxes import iou
from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records
from octavius.metrics.reporting import Weigh, shares

THRESHOLD = 0.5

Agree: TypeAlias = Callable[[str, str], bool]
"""Whether a predicted label (first argument) matches a true one."""


class BoxRecallPrecision(Records):
    """Fraction of true boxes that are found, and of predicted boxes that are right, over all images.

    A predicted and a true box can be paired if their IoU is at least 0.5 and their labels agree (by default,
    are equal up to case and surrounding whitespace). Each image counts a maximum matching. An ignored true
    box need not be found, and a predicted box that can be paired only with an ignored one is no error. A
    prediction of None is no boxes. Precision is 0 if nothing was predicted at all; recall is nan if there was
    nothing to find, and both are nan without any update. The records are the `box_counts` of each image.
    """

    columns = ("recall50", "precision50")
    headline = "recall50"
    averaged = ("recall50",)

    def __init__(self, agree: Agree | None = None) -> None:
        """Starts without images; `agree` decides whether a predicted label matches a true one."""
        super().__init__()
        self.agree = agree or same_label

    def update(self, predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes]) -> None:
        """Adds the predicted boxes of an image, or None, per gold."""
        check_pairs(predictions, golds, Boxes)
        self.records += box_counts(predictions, golds, self.agree)

    def compute(self) -> dict[str, float]:
        """The keys recall50 and precision50, from 0 to 1."""
        matched, predicted, true = (sum(counts[index] for counts in self.records) for index in range(3))
        without_boxes = 0.0 if self.records else math.nan
        return {
            "recall50": matched / true if true else math.nan,
            "precision50": matched / predicted if predicted else without_boxes,
        }

    def weighted(self, predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes]) -> Weigh:
        """Both fractions, weighted by image."""
        counts = zip(*box_counts(predictions, golds, self.agree), strict=True)
        matched, predicted, true = (list(part) for part in counts)
        recall, precision = shares({"recall50": matched}, true), shares({"precision50": matched}, predicted)
        return lambda weights: (
            recall(weights) | {key: np.nan_to_num(row) for key, row in precision(weights).items()}
        )


def same_label(said: str, label: str) -> bool:
    """Whether two labels are equal up to case and surrounding whitespace."""
    return said.strip().casefold() == label.strip().casefold()


def box_counts(
    predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes], agree: Agree = same_label
) -> list[tuple[int, int, int]]:
    """For each image the number of pairs, of predicted boxes that count, and of true boxes to find."""
    counts = []
    for found, gold in zip(predictions, golds, strict=True):
        wanted = [box for box in gold.objects if not box.ignored]
        ignored = [box for box in gold.objects if box.ignored]
        matched = matched_boxes(found or (), wanted, agree)
        # Predicted boxes that fit no box to find, but an ignored one, are left out of the precision.
        spare = [box for box in found or () if not _fitting(box, wanted, agree)]
        free = sum(bool(_fitting(box, ignored, agree)) for box in spare)
        counts.append((matched, len(found or ()) - free, len(wanted)))
    return counts


def matched_boxes(
    predicted: Sequence[LabelledBox], true: Sequence[LabelledBox], agree: Agree = same_label
) -> int:
    """Size of a maximum matching between predicted and true boxes.

    >>> matched_boxes([LabelledBox("Dog ", (0, 0, 1, 1))] * 2, [LabelledBox("dog", (0, 0, 1, 0.8))])
    1
    """
    return largest_matching([_fitting(box, true, agree) for box in predicted])


def _fitting(box: LabelledBox, true: Sequence[LabelledBox], agree: Agree) -> list[int]:
    """Indices of the true boxes that a predicted one can be paired with."""
    near = [index for index, other in enumerate(true) if iou(box.box, other.box) >= THRESHOLD]
    return [index for index in near if agree(box.label, true[index].label)]


def largest_matching(neighbours: Sequence[Sequence[int]]) -> int:
    """Size of a maximum bipartite matching, where left node i can be paired with right nodes `neighbours[i]`.

    From each left node in turn, a breadth-first search looks for an augmenting path to a free right node
    (Kuhn's algorithm).

    >>> largest_matching([[0, 1], [0]])
    2
    """
    owner: dict[int, int] = {}  # right node -> the left node it is paired with
    for start in range(len(neighbours)):
        reached_from: dict[int, int] = {}  # right node -> the left node that found it
        queue = deque([start])
        while queue:
            left = queue.popleft()
            for right in neighbours[left]:
                if right in reached_from:
                    continue
                reached_from[right] = left
                if right not in owner:
                    _pass_on(right, start, owner, reached_from)
                    queue.clear()
                    break
                queue.append(owner[right])
    return len(owner)


def _pass_on(free: int, start: int, owner: dict[int, int], reached_from: dict[int, int]) -> None:
    """Augments: re-pairs the nodes on the path from `start` to a free right node, from its end to its start."""
    gives_up = {left: right for right, left in owner.items()}
    right = free
    while True:
        left = reached_from[right]
        owner[right] = left
        if left == start:
            return
        right = gives_up[left]
