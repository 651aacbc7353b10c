"""Predicted and true labelled boxes come in; recall and precision under one-to-one matching go out."""

import math
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from octavius.boxes import iou
from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics.pairs import check_pairs

THRESHOLD = 0.5


class BoxRecallPrecision(Metric):
    """Share of the true boxes that are found, and of the predicted boxes that are right, over all images.

    A predicted box may stand for a true box when their IoU is at least 0.5 and their labels are the same,
    case and outer blanks aside. Each box counts once: an image scores the largest number of pairs that can
    be made. A prediction of None is no boxes. Precision is 0 when no box was predicted at all; recall is nan
    when there was no box to find, and both are nan without any update, because nothing was measured.

    Attributes:
        matched: pairs made.
        true: boxes to find.
        predicted: boxes predicted.
        images: how many predictions were scored.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    matched: Tensor
    true: Tensor
    predicted: Tensor
    images: Tensor

    def __init__(self) -> None:
        """Starts from no images."""
        super().__init__()
        for name in ("matched", "true", "predicted", "images"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes]) -> None:
        """Adds the boxes predicted for an image, or None, for each gold."""
        check_pairs(predictions, golds, Boxes)
        pairs = [(found or (), gold.objects) for found, gold in zip(predictions, golds, strict=True)]
        self.matched += sum(matched_boxes(*pair) for pair in pairs)
        self.predicted += sum(len(found) for found, _ in pairs)
        self.true += sum(len(true) for _, true in pairs)
        self.images += len(pairs)

    def compute(self) -> dict[str, Tensor]:
        """The keys recall50 and precision50, fractions of 1."""
        matched, true, predicted = self.matched.item(), self.true.item(), self.predicted.item()
        without_boxes = 0.0 if self.images.item() else math.nan
        values = {
            "recall50": matched / true if true else math.nan,
            "precision50": matched / predicted if predicted else without_boxes,
        }
        return {key: torch.tensor(value, device=self.device) for key, value in values.items()}


def matched_boxes(predicted: Sequence[LabelledBox], true: Sequence[LabelledBox]) -> int:
    """The largest number of pairs of a predicted and a true box that agree, each box in one pair at most.

    >>> matched_boxes([LabelledBox("Dog ", (0, 0, 1, 1))] * 2, [LabelledBox("dog", (0, 0, 1, 0.8))])
    1
    """
    labels = [box.label.strip().casefold() for box in true]
    neighbours = []
    for box in predicted:
        label = box.label.strip().casefold()
        same = [place for place, other in enumerate(labels) if other == label]
        neighbours.append([place for place in same if iou(box.box, true[place].box) >= THRESHOLD])
    return largest_matching(neighbours)


def largest_matching(neighbours: Sequence[Sequence[int]]) -> int:
    """The size of a maximum matching, where left node i may be paired with the right nodes `neighbours[i]`.

    Each left node in turn looks, breadth first, for a path to a free right node on which every right node
    that is already taken can pass on to another (Kuhn's algorithm).

    >>> largest_matching([[0, 1], [0]])
    2
    """
    owner: dict[int, int] = {}  # right node -> the left node that it is paired with
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
    """Pairs the nodes of the path from `start` to a free right node anew, from its end back to its start."""
    gives_up = {left: right for right, left in owner.items()}
    right = free
    while True:
        left = reached_from[right]
        owner[right] = left
        if left == start:
            return
        right = gives_up[left]
