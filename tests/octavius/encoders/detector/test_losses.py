"""Detection losses equal plain loops, and are finite for empty scenes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavius.boxes3d import iou3d
from octavius.encoders.detector.assign import UNASSIGNED, assign_fcaf3d, assign_tr3d
from octavius.encoders.detector.losses import Truth, distance_iou, fcaf3d_losses, focal_loss, tr3d_losses
from octavius.encoders.detector.predictions import Predictions

CLASSES = 3


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def naive_focal(logits: list[float], label: int) -> float:
    """The focal loss of one location, class after class."""
    total = 0.0
    for number, logit in enumerate(logits):
        right = number == label
        share = sigmoid(logit) if right else 1 - sigmoid(logit)
        total -= (0.25 if right else 0.75) * (1 - share) ** 2 * math.log(share)
    return total


@given(st.integers(0, 10**6), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_the_focal_loss_equals_its_formula(seed: int, count: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, CLASSES, generator=rng, dtype=torch.float64) * 3
    labels = torch.randint(UNASSIGNED, CLASSES, (count,), generator=rng)
    wanted = sum(naive_focal(row, int(label)) for row, label in zip(logits.tolist(), labels, strict=True))
    assert focal_loss(logits, labels).item() == pytest.approx(wanted)


def test_distance_iou_of_known_boxes() -> None:
    first = torch.tensor([[0.0, 0, 0, 2, 2, 2]]).expand(3, 6)
    second = torch.tensor([[0.0, 0, 0, 2, 2, 2], [1.0, 0, 0, 2, 2, 2], [4.0, 0, 0, 2, 2, 2]])
    # hulls: 2 x 2 x 2; 3 x 2 x 2 with half of either shared; 6 x 2 x 2 with nothing shared
    assert distance_iou(first, second).tolist() == pytest.approx([1, 4 / 12 - 1 / 17, -16 / 44])


def drawn(scenes: int, count: int = 40, centred: bool = True) -> Predictions:
    rng = torch.Generator().manual_seed(count)
    rows = scenes * count
    places = torch.rand(rows, 3, generator=rng, dtype=torch.float64) * 2
    sizes = torch.rand(rows, 3, generator=rng, dtype=torch.float64) + 0.2
    boxes = torch.cat([places + torch.randn(rows, 3, generator=rng) * 0.1, sizes], dim=1).requires_grad_()
    logits = torch.randn(rows, CLASSES, generator=rng, dtype=torch.float64).requires_grad_()
    centre = torch.randn(rows, generator=rng, dtype=torch.float64).requires_grad_() if centred else None
    levels = torch.randint(0, 2, (rows,), generator=rng)
    return Predictions(places, boxes, logits, centre, levels, torch.arange(rows) % scenes, scenes)


TRUTHS: list[Truth] = [
    (
        torch.tensor([[0.5, 0.5, 0.5, 0.9, 0.9, 0.9], [1.4, 1.2, 1.0, 1.1, 1.5, 1.9]]).double(),
        torch.tensor([2, 0]),
    ),
    (torch.tensor([[1.0, 1.0, 1.0, 1.9, 1.9, 1.9]]).double(), torch.tensor([1])),
]
EMPTY: Truth = (torch.zeros(0, 6, dtype=torch.float64), torch.zeros(0, dtype=torch.long))


def test_fcaf3ds_losses_equal_loops_over_scenes() -> None:
    predictions = drawn(2)
    assert predictions.centreness is not None
    totals = dict.fromkeys(("class", "centre", "box"), 0.0)
    for number, (boxes, labels) in enumerate(TRUTHS):
        rows = [row for row in range(80) if row % 2 == number]
        box, centre = assign_fcaf3d(predictions.positions[rows], predictions.levels[rows], boxes, 2)
        mine = [
            (row, int(b), float(c)) for row, b, c in zip(rows, box, centre, strict=True) if b != UNASSIGNED
        ]
        assert mine
        targets = [int(labels[b]) if b != UNASSIGNED else UNASSIGNED for b in box]
        of_rows = zip(predictions.logits[rows].tolist(), targets, strict=True)
        totals["class"] += sum(naive_focal(*pair) for pair in of_rows) / len(mine) / 2
        for row, b, c in mine:
            said = sigmoid(predictions.centreness[row].item())
            totals["centre"] -= (c * math.log(said) + (1 - c) * math.log(1 - said)) / len(mine) / 2
            overlap = float(iou3d(predictions.boxes[row], boxes[b]))
            totals["box"] += (1 - overlap) * c / sum(c for *_, c in mine) / 2
    found = fcaf3d_losses(predictions, TRUTHS, 2)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(totals)


def test_tr3ds_losses_equal_loops_over_all_scenes() -> None:
    predictions, levels = drawn(2, centred=False), torch.tensor([0, 1, 1])
    focal, missed, count = 0.0, 0.0, 0
    for number, (boxes, labels) in enumerate(TRUTHS):
        rows = [row for row in range(80) if row % 2 == number]
        box = assign_tr3d(predictions.positions[rows], predictions.levels[rows], boxes, levels[labels])
        for row, b in zip(rows, box.tolist(), strict=True):
            focal += naive_focal(
                predictions.logits[row].tolist(), UNASSIGNED if b == UNASSIGNED else int(labels[b])
            )
            if b != UNASSIGNED:
                count += 1
                missed += 1 - float(distance_iou(predictions.boxes[row : row + 1], boxes[b : b + 1]))
    found = tr3d_losses(predictions, TRUTHS, levels)
    assert count == 18
    assert found["class"].item() == pytest.approx(focal / count)
    assert found["box"].item() == pytest.approx(missed / count)


@pytest.mark.parametrize("truths", [[EMPTY, EMPTY], [EMPTY, TRUTHS[1]]])
@pytest.mark.parametrize("head", ["fcaf3d", "tr3d"])
def test_scenes_without_a_box_give_finite_losses_and_gradients(head: str, truths: list[Truth]) -> None:
    predictions = drawn(2, centred=head == "fcaf3d")
    if head == "fcaf3d":
        losses = fcaf3d_losses(predictions, truths, 2)
    else:
        losses = tr3d_losses(predictions, truths, torch.tensor([0, 1, 1]))
    torch.stack([*losses.values()]).sum().backward()
    said = [predictions.boxes, predictions.logits, predictions.centreness]
    for part in said if head == "fcaf3d" else said[:2]:
        assert isinstance(part, Tensor)
        assert part.grad is not None  # every weight takes part, whatever a process was given
        assert part.grad.isfinite().all()
    assert predictions.logits.grad is not None
    assert predictions.logits.grad.abs().sum() > 0  # nothing is there: that is learnt too
