"""AP equals the devkit's loop, pycocotools, and sums by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.boxes import iou
from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics import CocoAP, VocAP
from tests.octavius.metrics.boxes.detected_scenes import Scenes, scenes, values

WHOLE = (0.0, 0.0, 1.0, 1.0)
HALF = (0.0, 0.0, 1.0, 0.4)


def devkit(images: Scenes, label: str, eleven: bool) -> float | None:
    """The loop of the VOC devkit for one class."""
    true = [[box for box in boxes if box.label == label] for _, boxes in images]
    to_find = sum(not box.ignored for boxes in true for box in boxes)
    if not to_find:
        return None
    found = [(box, place) for place, (boxes, _) in enumerate(images) for box in boxes if box.label == label]
    taken: set[tuple[int, int]] = set()
    right, wrong, curve = 0, 0, []
    for box, place in sorted(found, key=lambda item: -item[0].score):
        best, at = 0.0, -1
        for number, other in enumerate(true[place]):
            if iou(box.box, other.box) > best:
                best, at = iou(box.box, other.box), number
        if best >= 0.5:
            if true[place][at].ignored:
                continue
            if (place, at) in taken:
                wrong += 1
            else:
                taken.add((place, at))
                right += 1
        else:
            wrong += 1
        curve.append((right / to_find, right / (right + wrong)))

    def reached(recall: float) -> float:
        return max((precision for r, precision in curve if r >= recall - 1e-12), default=0.0)

    if eleven:
        return sum(reached(t / 10) for t in range(11)) / 11
    return sum(reached(n / to_find) for n in range(1, to_find + 1)) / to_find


@given(scenes())
def test_voc_equals_the_devkits_loop(images: Scenes) -> None:
    found = values(VocAP(), images)
    for key, eleven in (("map50", False), ("map50_11point", True)):
        each = [ap for label in ("cat", "dog") if (ap := devkit(images, label, eleven)) is not None]
        expected = sum(each) / len(each) if each else math.nan
        assert found[key] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_by_hand() -> None:
    """One object in each of two images: found second, after a false box, and never; a third image is all ignored."""
    images = [
        ([LabelledBox("dog", HALF, 0.9), LabelledBox("Dog ", WHOLE, 0.8)], [LabelledBox("dog", WHOLE)]),
        ([LabelledBox("cat", WHOLE, 1.0)], [LabelledBox("dog", WHOLE)]),
        ([LabelledBox("dog", WHOLE, 1.0)], [LabelledBox("dog", WHOLE, ignored=True)]),
    ]
    found = values(VocAP(), images)
    assert found["map50"] == pytest.approx(1 / 4)  # half the recall at a precision of 1/2
    assert found["map50_11point"] == pytest.approx(6 / 11 / 2)  # at the recalls 0, .1 .. .5
    equal = [([replace(box, score=0.5) for box in boxes], true) for boxes, true in images]
    assert values(VocAP(), equal)["map50"] == pytest.approx(1 / 4), "boxes of one score count at once"


def test_nothing_to_find_and_nothing_found() -> None:
    for metric, key in ((VocAP(), "map50"), (CocoAP(), "map_coco")):
        assert math.isnan(metric.compute()[key])
        metric.update([None], [Boxes((LabelledBox("cat", WHOLE),))])
        assert metric.compute()[key] == 0


def test_rank_of_scores_decides() -> None:
    true = [LabelledBox("cat", WHOLE)]
    sure = [LabelledBox("cat", WHOLE, 0.9), LabelledBox("cat", HALF, 0.1)]
    assert values(VocAP(), [(sure, true)])["map50"] == pytest.approx(1)
    unsure = [replace(box, score=1 - box.score) for box in sure]
    assert values(VocAP(), [(unsure, true)])["map50"] == pytest.approx(1 / 2)
    assert np.isclose(values(CocoAP(), [(unsure, true)])["map50_coco"], 1 / 2)


def devkit_with_ties(images: Scenes, eleven: bool) -> float:
    """VOC's rule to the letter: a class's file of results is sorted stably by falling confidence."""
    labels = sorted({box.label for _, true in images for box in true if not box.ignored})
    values = []
    for label in labels:
        file = [
            (box, place) for place, (found, _) in enumerate(images) for box in found if box.label == label
        ]
        file = [file[at] for at in np.argsort([-box.score for box, _ in file], kind="stable")]
        true = [[box for box in boxes if box.label == label] for _, boxes in images]
        done = [[False] * len(boxes) for boxes in true]
        right, wrong = np.zeros(len(file)), np.zeros(len(file))
        for line, (box, place) in enumerate(file):
            overlaps = [iou(box.box, other.box) for other in true[place]]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if best >= 0 and overlaps[best] >= 0.5:
                if not true[place][best].ignored:
                    right[line], wrong[line] = (0, 1) if done[place][best] else (1, 0)
                    done[place][best] = True
            else:
                wrong[line] = 1
        count = sum(not box.ignored for boxes in true for box in boxes)
        recall = right.cumsum() / count
        precision = right.cumsum() / np.maximum(right.cumsum() + wrong.cumsum(), 1e-12)
        if eleven:
            reached = [precision[recall >= level - 1e-9] for level in np.linspace(0, 1, 11)]
            values.append(np.mean([one.max() if len(one) else 0 for one in reached]))
            continue
        steps, heights = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
        heights = np.maximum.accumulate(heights[::-1])[::-1]
        values.append(float((np.diff(steps) * heights[1:]).sum()))
    return float(np.mean(values)) if values else float("nan")


TIED = st.builds(
    LabelledBox,
    st.sampled_from(["dog", "cat"]),
    st.sampled_from([(0.0, 0.0, 0.5, 0.5), (0.1, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0), (0.0, 0.5, 0.4, 1.0)]),
    st.sampled_from([0.25, 0.5]),
    st.booleans(),
)


@given(st.lists(st.tuples(st.lists(TIED, max_size=5), st.lists(TIED, max_size=3)), min_size=1, max_size=4))
def test_equal_scores_count_in_their_order_under_the_devkits_keys(
    images: list[tuple[list[LabelledBox], list[LabelledBox]]],
) -> None:
    pairs = [([replace(box, ignored=False) for box in found], true) for found, true in images]
    values = VocAP()
    values.update([found for found, _ in pairs], [Boxes(tuple(true)) for _, true in pairs])
    scores = values.compute()
    assert scores["map50_devkit"] == pytest.approx(devkit_with_ties(pairs, eleven=False), nan_ok=True)
    assert scores["map50_11point_devkit"] == pytest.approx(devkit_with_ties(pairs, eleven=True), nan_ok=True)


def test_the_order_of_equal_scores_matters_to_the_devkit_alone() -> None:
    box, other = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)
    right, wrong = LabelledBox("dog", box, 0.5), LabelledBox("dog", other, 0.5)
    found = {}
    for name, said in (("right first", [right, wrong]), ("wrong first", [wrong, right])):
        metric = VocAP()
        metric.update([said], [Boxes((LabelledBox("dog", box),))])
        found[name] = metric.compute()
    assert [scores["map50_devkit"] for scores in found.values()] == [1.0, 0.5]
    assert [scores["map50"] for scores in found.values()] == [0.5, 0.5]
