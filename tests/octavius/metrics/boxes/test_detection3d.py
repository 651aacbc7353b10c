"""AP of 3D boxes equals counts over every score and every recall."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import Boxes3D, LabelledBox3D
from octavius.metrics import MeanAP3D
from octavius.metrics.boxes.detection3d import average_precision, class_scores, scene_hits

Objects = Sequence[LabelledBox3D]
Scenes = list[tuple[list[LabelledBox3D], list[LabelledBox3D]]]

corners = st.tuples(*[st.integers(0, 1)] * 3, *[st.integers(1, 3)] * 3)


def grid_box(ends: tuple[int, ...]) -> tuple[float, float, float, float, float, float]:
    (x, y, z), (dx, dy, dz) = ends[:3], ends[3:]
    return (x + dx / 2, y + dy / 2, z + dz / 2, dx, dy, dz)


labels = st.sampled_from(["chair", " Chair", "table"])
found_boxes = st.builds(LabelledBox3D, labels, corners.map(grid_box), st.sampled_from([0.1, 0.5, 0.6, 0.9]))
true_boxes = st.builds(
    LabelledBox3D, labels, corners.map(grid_box), ignored=st.sampled_from([False, False, True])
)
scenes = st.lists(
    st.tuples(st.lists(found_boxes, max_size=5), st.lists(true_boxes, max_size=3)), min_size=1, max_size=3
)


def cells(box: LabelledBox3D) -> set[tuple[int, ...]]:
    low = [round(box.box[i] - box.box[i + 3] / 2) for i in range(3)]
    spans = [range(low[i], low[i] + round(box.box[i + 3])) for i in range(3)]
    return {(x, y, z) for x in spans[0] for y in spans[1] for z in spans[2]}


def counted_iou(first: LabelledBox3D, second: LabelledBox3D) -> float:
    return len(cells(first) & cells(second)) / len(cells(first) | cells(second))


def slow_scores(pairs: Scenes, label: str, threshold: float) -> tuple[float, float] | None:
    """Average precision and recall of one class, without walking down a list of detections.

    At each score, the objects that any detection of at least this score has for its best are found. The area
    under the envelope is the mean, over the objects, of the best precision with which at least so many are found.
    """
    aims: list[tuple[float, tuple[int, int] | None, bool]] = []  # score, the object that it hits, if ignored
    objects = 0
    for scene, (found, true) in enumerate(pairs):
        wanted = [box for box in true if box.label.strip().lower() == label]
        objects += sum(not box.ignored for box in wanted)
        for box in found:
            if box.label.strip().lower() != label:
                continue
            overlaps = [counted_iou(box, other) for other in wanted]
            best = max(range(len(wanted)), key=overlaps.__getitem__, default=None)
            aim = None if best is None or overlaps[best] <= threshold else best
            ignored = aim is not None and wanted[aim].ignored
            aims.append((box.score, None if aim is None else (scene, aim), ignored))
    if not objects:
        return None
    points = [(0, 0.0)]
    for least in {score for score, _, _ in aims}:
        counted = [aim for score, aim, ignored in aims if score >= least and not ignored]
        hits = len({aim for aim in counted if aim is not None})
        points.append((hits, hits / len(counted) if counted else 0.0))
    best_precisions = [
        max([p for hits, p in points if hits >= n], default=0.0) for n in range(1, objects + 1)
    ]
    return sum(best_precisions) / objects, max(hits for hits, _ in points) / objects


def score(pairs: Scenes) -> dict[str, float]:
    metric = MeanAP3D()
    metric.update([found for found, _ in pairs], [Boxes3D(tuple(true)) for _, true in pairs])
    return metric.compute()


@given(scenes)
def test_equals_counts_over_every_score_and_every_recall(pairs: Scenes) -> None:
    found = score(pairs)
    for threshold, name in ((0.25, "25"), (0.5, "50")):
        classes = [slow_scores(pairs, label, threshold) for label in ("chair", "table")]
        present = [values for values in classes if values is not None]
        expected = [sum(column) / len(present) for column in zip(*present, strict=True)] or [math.nan] * 2
        assert [found[f"map{name}"], found[f"mar{name}"]] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_case_by_hand() -> None:
    def chair(x: float, certainty: float = 1.0) -> LabelledBox3D:
        return LabelledBox3D("chair", (x, 0, 0, 2, 2, 2), certainty)

    # First scene: a chair, found again and again; second scene: two chairs, one of them found at an IoU of 1/3.
    first = ([chair(0, 0.9), chair(0, 0.8)], [chair(0)])
    second = ([chair(1, 0.7)], [chair(0), chair(9)])
    found = score([first, second])
    # hit, miss, hit of 3 objects at 0.25: precision 1 to recall 1/3, then 2/3; at 0.5 only the first hits
    assert [found["map25"], found["mar25"]] == pytest.approx([(1 + 2 / 3) / 3, 2 / 3])
    assert [found["map50"], found["mar50"]] == pytest.approx([1 / 3, 1 / 3])


def test_an_overlap_of_just_the_threshold_is_a_miss_and_there_is_no_second_choice() -> None:
    true = [LabelledBox3D("box", (0, 0, 0, 4, 1, 1)), LabelledBox3D("box", (0, 1, 0, 4, 1, 1))]
    half = LabelledBox3D("box", (1, 0, 0, 2, 1, 1), 0.5)
    assert score([([half], true)])["map50"] == 0
    # both look at the first object, with which their IoU is 1 and 2/3; the second object stays without
    near = LabelledBox3D("box", (0, 0.2, 0, 4, 1, 1), 0.4)
    assert score([([true[0], near], true)])["mar25"] == 0.5


@given(
    st.lists(true_boxes, min_size=1, max_size=4, unique_by=lambda box: box.box).filter(
        lambda t: not all(b.ignored for b in t)
    )
)
def test_a_perfect_detection_scores_one(true: list[LabelledBox3D]) -> None:
    assert list(score([(true, true)]).values()) == pytest.approx([1] * 4)


def test_a_turned_box_is_compared_as_such() -> None:
    long = (0.0, 0.0, 0.0, 4.0, 1.0, 1.0, 0.3)
    found = [LabelledBox3D("desk", long, 0.5)]  # type: ignore[arg-type]
    across = [LabelledBox3D("desk", (*long[:6], 0.3 + math.pi / 2))]  # type: ignore[arg-type]
    again = [LabelledBox3D("desk", (*long[:6], 0.3 + math.pi))]  # type: ignore[arg-type]
    assert [score([(found, again)])["map50"], score([(found, across)])["map25"]] == [1, 0]


def test_classes_are_weighed_alike_and_told_apart() -> None:
    chairs = [LabelledBox3D("chair", (float(3 * i), 0, 0, 1, 1, 1)) for i in range(3)]
    table = LabelledBox3D("table", (0, 9, 0, 1, 1, 1))
    lamp = LabelledBox3D("lamp", (0, 20, 0, 1, 1, 1), 0.9)
    found = score([(chairs, [*chairs, table]), ([lamp], [])])
    assert [found["map50"], found["mar50"]] == [0.5, 0.5]  # a class without an object, lamp, is left out
    classes = class_scores([scene_hits([*chairs, lamp], [*chairs, table])], 1)
    assert {label: (one.precision, one.recall, one.objects) for label, one in classes.items()} == {
        "chair": (1, 1, 3),
        "table": (0, 0, 1),
    }


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.4, 0.9]), st.booleans()), max_size=8), st.randoms())
def test_detections_of_equal_score_may_come_in_any_order(rows: list[tuple[float, bool]], rng: object) -> None:
    objects = max(1, sum(hit for _, hit in rows))
    shuffled = rows.copy()
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert average_precision(shuffled, objects) == average_precision(rows, objects)


def test_no_boxes_score_zero_and_nothing_to_find_is_nan() -> None:
    chair = LabelledBox3D("chair", (0, 0, 0, 1, 1, 1))
    metric = MeanAP3D()
    metric.update([None, []], [Boxes3D((chair,)), Boxes3D(())])
    assert [*metric.compute().values()] == [0] * 4
    assert all(math.isnan(value) for value in score([([chair], [])]).values())


def test_a_score_that_is_no_number_is_refused() -> None:
    chair = LabelledBox3D("chair", (0, 0, 0, 1, 1, 1))
    sofa = LabelledBox3D("sofa", (0, 0, 0, 1, 1, 1), math.nan)
    with pytest.raises(ValueError, match="detection 1 of 2 in a scene, a 'sofa', has the score nan"):
        MeanAP3D().update([[chair, sofa]], [Boxes3D(())])
