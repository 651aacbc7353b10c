"""Selection of proposals equals plain loops over scored boxes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavius.encoders.detector.predictions import Predictions
from octavius.encoders.detector.proposals import AT_ONCE, FIRST, Suppression, chosen, suppressed


def naive_overlap(first: list[float], second: list[float], axes: int) -> float:
    """IoU over the first two or all three axes."""
    shared, one, other = 1.0, 1.0, 1.0
    for axis in range(axes):
        low = max(first[axis] - first[axis + 3] / 2, second[axis] - second[axis + 3] / 2)
        high = min(first[axis] + first[axis + 3] / 2, second[axis] + second[axis + 3] / 2)
        shared *= max(high - low, 0)
        one, other = one * first[axis + 3], other * second[axis + 3]
    return shared / (one + other - shared)


def naive_suppressed(boxes: Tensor, scores: Tensor, overlap: float, axes: int) -> list[int]:
    rows, kept = boxes.tolist(), list[int]()
    for place in sorted(range(len(rows)), key=lambda place: -float(scores[place])):
        if all(naive_overlap(rows[place], rows[other], axes) <= overlap for other in kept):
            kept.append(place)
    return kept


def drawn(seed: int, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 3, generator=rng, dtype=torch.float64)
    return torch.cat([centres, torch.rand(count, 3, generator=rng, dtype=torch.float64) + 0.3], dim=1)


@given(
    st.integers(0, 10**6),
    st.integers(0, 30),
    st.sampled_from([0.1, 0.25, 0.5]),
    st.sampled_from(["3d", "bev"]),
)
@settings(max_examples=60, deadline=None)
def test_suppression_equals_loops(seed: int, count: int, overlap: float, mode: Suppression) -> None:
    boxes = drawn(seed, count)
    scores = (
        torch.randint(0, 8, (count,), generator=torch.Generator().manual_seed(seed)) / 8
    )  # some are equal
    wanted = naive_suppressed(boxes, scores, overlap, 2 if mode == "bev" else 3)
    assert suppressed(boxes, scores, overlap, mode).tolist() == wanted


def test_suppression_of_more_boxes_than_are_held_at_once_equals_loops() -> None:
    boxes = drawn(1, 3 * AT_ONCE) * torch.tensor([4.0, 4, 4, 1, 1, 1])
    scores = torch.rand(len(boxes), generator=torch.Generator().manual_seed(2))
    wanted = naive_suppressed(boxes, scores, 0.25, 3)
    assert AT_ONCE < len(wanted) < len(boxes)
    assert suppressed(boxes, scores, 0.25).tolist() == wanted


def test_seen_from_above_a_thing_hides_the_one_below() -> None:
    boxes = torch.tensor([[0.0, 0, 0.25, 1, 1, 0.5], [0.0, 0, 0.75, 1, 1, 0.5]])
    scores = torch.tensor([0.4, 0.9])
    assert suppressed(boxes, scores, mode="bev").tolist() == [1]
    assert suppressed(boxes, scores, mode="3d").tolist() == [1, 0]


def said(seed: int, count: int, centred: bool, scenes: int = 2) -> Predictions:
    rng = torch.Generator().manual_seed(seed)
    boxes = drawn(seed, count * scenes)
    logits = torch.randn(count * scenes, 3, generator=rng, dtype=torch.float64) * 3
    centre = torch.randn(count * scenes, generator=rng, dtype=torch.float64) if centred else None
    batch = torch.arange(count * scenes) % scenes
    return Predictions(boxes[:, :3], boxes, logits, centre, batch * 0, batch, scenes)


@given(st.integers(0, 10**6), st.integers(1, 20), st.booleans())
@settings(max_examples=30, deadline=None)
def test_boxes_are_chosen_class_after_class(seed: int, count: int, centred: bool) -> None:
    predictions = said(seed, count, centred)
    for number, found in enumerate(chosen(predictions, least=0.2)):
        rows = [row for row in range(2 * count) if row % 2 == number]
        wanted = []
        for label in range(3):
            scores = predictions.logits[:, label].sigmoid()
            if predictions.centreness is not None:
                scores = scores * predictions.centreness.sigmoid()
            sure = [row for row in rows if scores[row] > 0.2]
            kept = naive_suppressed(predictions.boxes[sure], scores[sure], 0.5, 3)
            wanted += [
                (float(scores[sure[place]]), label, predictions.boxes[sure[place]].tolist()) for place in kept
            ]
        wanted.sort(key=lambda item: -item[0])
        assert found.scores.tolist() == pytest.approx([score for score, _, _ in wanted], abs=1e-6)
        assert found.labels.tolist() == [label for _, label, _ in wanted]
        assert torch.allclose(
            found.boxes.double(), torch.tensor([box for *_, box in wanted]).double().reshape(-1, 6)
        )


@pytest.mark.parametrize("centred", [True, False])
def test_only_the_surest_locations_are_looked_at_of_each_level_or_of_all(centred: bool) -> None:
    count = FIRST + 50
    far = torch.arange(2.0 * count)[:, None].expand(-1, 3) * 10
    boxes = torch.cat([far, torch.ones(2 * count, 3)], dim=1)
    logits = torch.linspace(5, 4, 2 * count)[:, None]
    levels = (torch.arange(2 * count) >= count).long()
    centre = torch.full((2 * count,), 9.0) if centred else None
    [found] = chosen(Predictions(boxes[:, :3], boxes, logits, centre, levels, levels * 0, 1))
    first = torch.arange(FIRST)
    wanted = torch.cat([first, first + count]) if centred else first
    assert torch.equal(found.boxes[:, 0], far[wanted, 0])


def test_nothing_sure_gives_no_box() -> None:
    predictions = said(0, 4, False)
    for found in chosen(predictions, least=1.0):
        assert found.boxes.shape == (0, 6)
        assert found.scores.shape == found.labels.shape == (0,)
        assert found.labels.dtype == torch.long
