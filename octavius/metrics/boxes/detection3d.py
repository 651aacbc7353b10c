"""Mean average precision of 3D detection, as in the evaluators for ScanNet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from octavius.boxes3d import iou3d, stack
from octavius.instruction.sample import Boxes3D, LabelledBox3D
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records, mean

THRESHOLDS = (0.25, 0.5)

Hits: TypeAlias = tuple[bool | None, ...]
"""For each threshold whether a detection is a true positive; None if it matches an ignored object."""


@dataclass(frozen=True)
class ClassScore:
    """Average precision and recall of a class over all scenes, and its number of objects to find."""

    precision: float
    recall: float
    objects: int


class MeanAP3D(Records):
    """Mean average precision over classes.

    Source: `eval_det.py` of VoteNet, shared by MMDetection3D and ScanRefer's benchmark, after the devkit of
    PASCAL VOC since 2010. The detections of a class in all scenes are ranked by score. Each is compared with
    the object of its class in its scene with the largest IoU; it is a true positive if that IoU is above the
    threshold and no higher-ranked detection has matched the same object. AP is the area under the
    interpolated precision-recall curve. The mean is over classes with at least one object to find.

    Three cases are defined here that these evaluators leave to chance or do not have. Detections of equal
    score form one point of the curve, so their order does not matter. A class that is predicted but has no
    object is excluded. A detection whose best object is `ignored` counts neither way, like VOC's difficult
    objects. A prediction of None is no boxes. Without an object to find every value is nan. The records are the
    `scene_hits` of each scene that has any.
    """

    def update(self, predictions: Sequence[Sequence[LabelledBox3D] | None], golds: Sequence[Boxes3D]) -> None:
        """Adds the detections of a scene, or None, per gold."""
        check_pairs(predictions, golds, Boxes3D)
        pairs = zip(predictions, golds, strict=True)
        self.records += [scene for found, gold in pairs if (scene := scene_hits(found or (), gold.objects))]

    def compute(self) -> dict[str, float]:
        """The keys map25, map50, mar25 and mar50 (mean recall), from 0 to 1."""
        values = {}
        for index, threshold in enumerate(THRESHOLDS):
            scores = class_scores(self.records, index).values()
            values[f"map{threshold * 100:.0f}"] = mean([score.precision for score in scores])
            values[f"mar{threshold * 100:.0f}"] = mean([score.recall for score in scores])
        return values


Scene: TypeAlias = dict[str, tuple[int, list[tuple[float, Hits]]]]
"""By class: the number of objects to find, and the score and hits of each detection."""


def scene_hits(found: Sequence[LabelledBox3D], true: Sequence[LabelledBox3D]) -> Scene:
    """The detections of one scene and their hits, by class; labels ignore case and surrounding whitespace."""
    for index, box in enumerate(found):
        if not math.isfinite(box.score):
            raise ValueError(
                f"detection {index} of {len(found)} in a scene, a {box.label!r}, has the score {box.score}: "
                "detections are taken by falling score, so each needs a finite one; look at the detector's output"
            )
    labels = sorted({box.label.strip().casefold() for box in (*found, *true)})
    scene = {}
    for label in labels:
        mine, wanted = (
            [box for box in boxes if box.label.strip().casefold() == label] for boxes in (found, true)
        )
        mine.sort(key=lambda box: -box.score)
        rows = [(box.score, hits) for box, hits in zip(mine, _hits(mine, wanted), strict=True)]
        scene[label] = (sum(not box.ignored for box in wanted), rows)
    return scene


def class_scores(scenes: Sequence[Scene], index: int) -> dict[str, ClassScore]:
    """The scores of each class with an object to find, over all scenes, at threshold index `index`."""
    objects: dict[str, int] = {}
    rows: dict[str, list[tuple[float, bool]]] = {}
    for scene in scenes:
        for label, (count, detections) in scene.items():
            objects[label] = objects.get(label, 0) + count
            judged = [(score, hits[index]) for score, hits in detections]
            rows.setdefault(label, []).extend((score, hit) for score, hit in judged if hit is not None)
    return {
        label: ClassScore(
            average_precision(rows[label], count), sum(hit for _, hit in rows[label]) / count, count
        )
        for label, count in sorted(objects.items())
        if count
    }


def average_precision(rows: Sequence[tuple[float, bool]], objects: int) -> float:
    """Area under the interpolated precision-recall curve.

    Args:
        rows: (score, whether it is a true positive) of each detection.
        objects: number of objects to find.

    >>> average_precision([(0.9, True), (0.8, False), (0.7, True)], 2)
    0.8333333333333333
    """
    ordered = sorted(rows, key=lambda row: -row[0])
    steps, hits = [(0.0, 1.0)], 0
    for index, (score, hit) in enumerate(ordered, start=1):
        hits += hit
        if index == len(ordered) or ordered[index][0] != score:
            steps.append((hits / objects, hits / index))
    area, best = 0.0, 0.0
    for (before, _), (recall, precision) in zip(steps[-2::-1], steps[:0:-1], strict=True):
        best = max(best, precision)
        area += (recall - before) * best
    return area


def _hits(found: Sequence[LabelledBox3D], true: Sequence[LabelledBox3D]) -> list[Hits]:
    """The hits of the detections of one class in one scene, which are sorted by falling score."""
    if not found or not true:
        return [(False,) * len(THRESHOLDS)] * len(found)
    first, second = (stack([box.box for box in boxes]) for boxes in (found, true))
    overlaps = iou3d(first[:, None], second)
    taken: list[set[int]] = [set() for _ in THRESHOLDS]
    rows: list[Hits] = []
    for row in overlaps:
        best = int(row.argmax())
        hits: list[bool | None] = []
        for threshold, gone in zip(THRESHOLDS, taken, strict=True):
            over = bool(row[best] > threshold)
            ignored = over and true[best].ignored
            hits.append(None if ignored else over and best not in gone)
            if over:
                gone.add(best)
        rows.append(tuple(hits))
    return rows
