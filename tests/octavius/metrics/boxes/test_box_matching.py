"""Recall and precision equal an exhaustive search over all matchings of boxes."""

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.boxes import iou
from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics import BoxRecallPrecision
from octavius.metrics.boxes.box_matching import largest_matching, matched_boxes

SLOTS = st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 3)] * 2)
boxes = st.builds(
    LabelledBox,
    st.sampled_from(["dog", "cat"]),
    SLOTS.map(lambda s: (s[0] / 6, s[1] / 6, (s[0] + s[2]) / 6, (s[1] + s[3]) / 6)),
)
images = st.lists(boxes, max_size=5)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def score(
    predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Sequence[LabelledBox]]
) -> tuple[float, float]:
    metric = BoxRecallPrecision()
    metric.update(predictions, [Boxes(tuple(objects)) for objects in golds])
    found = metric.compute()
    return found["recall50"], found["precision50"]


@given(images, images)
def test_matching_equals_the_best_of_all_ways_to_pair(
    predicted: list[LabelledBox], true: list[LabelledBox]
) -> None:
    short, long = sorted((predicted, true), key=len)
    best = max(
        sum(a.label == b.label and iou(a.box, b.box) >= 0.5 for a, b in zip(short, order, strict=True))
        for order in permutations(long, len(short))
    )
    assert matched_boxes(predicted, true) == best


@given(st.lists(st.sets(st.integers(0, 4)), max_size=5))
def test_largest_matching_equals_the_best_of_all_orders(neighbours: list[set[int]]) -> None:
    best = max(
        sum(right in nearby for right, nearby in zip(order, neighbours, strict=True))
        for order in permutations(range(5), len(neighbours))
    )
    assert largest_matching([sorted(nearby) for nearby in neighbours]) == best


def test_a_matching_that_must_move_every_pair_is_found_without_deep_recursion() -> None:
    size = 2000
    assert largest_matching([[i, i + 1] for i in range(size)] + [[0]]) == size + 1


@given(st.lists(images, min_size=1, max_size=4).filter(any))
def test_a_perfect_prediction_scores_one_in_any_order(golds: list[list[LabelledBox]]) -> None:
    assert score([objects[::-1] for objects in golds], golds) == (1.0, 1.0)


def test_scores_are_of_all_boxes_together_not_a_mean_over_images() -> None:
    dog, cat = LabelledBox("dog", WHOLE), LabelledBox("cat", WHOLE)
    recall, precision = score([[dog], [cat, cat, cat]], [[dog, cat], [cat]])
    assert [recall, precision] == pytest.approx([2 / 3, 2 / 4])


def test_an_overlap_of_exactly_one_half_is_enough_and_less_is_not() -> None:
    true = [[LabelledBox("dog", WHOLE)]]
    assert score([[LabelledBox("dog", (0.0, 0.0, 0.5, 1.0))]], true) == (1.0, 1.0)
    assert score([[LabelledBox("dog", (0.0, 0.0, 0.49, 1.0))]], true) == (0.0, 0.0)


def test_labels_must_agree_but_case_and_blanks_are_no_difference() -> None:
    true = [[LabelledBox("Traffic light", WHOLE)]]
    assert score([[LabelledBox(" traffic Light ", WHOLE)]], true) == (1.0, 1.0)
    assert score([[LabelledBox("light", WHOLE)]], true) == (0.0, 0.0)


def test_no_prediction_is_no_boxes_and_precision_is_then_zero() -> None:
    dog = LabelledBox("dog", WHOLE)
    assert score([None], [[dog]]) == (0.0, 0.0)
    assert score([()], [[dog]]) == (0.0, 0.0)
    assert score([None, [dog]], [[dog], [dog]]) == (0.5, 1.0)


def test_recall_of_no_boxes_is_nan() -> None:
    recall, precision = score([None], [[]])
    assert math.isnan(recall)
    assert precision == 0.0
