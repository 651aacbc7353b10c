"""COCO average precision by pycocotools."""

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics.boxes.average_precision import (
    BoxRecords,
    Ranked,
    at_recalls,
    curve,
    image_record,
    known_means,
)
from octavius.metrics.reporting import Weigh

RECALLS = np.linspace(0, 1, 101)
IOUS = np.linspace(0.5, 0.95, 10)


class CocoAP(BoxRecords):
    """COCO's average precision: IoU 0.5 to 0.95, all sizes, at most 100 boxes per image.

    Ignored objects are treated as crowds. Without an object to find the values are nan.
    """

    columns = ("map_coco",)

    def compute(self) -> dict[str, float]:
        """The keys map_coco, map50_coco and map75_coco, from 0 to 1."""
        images = self.records
        precision = accumulated(coco_matched(images)) if images else np.full((10, 101, 0), -1.0)
        return {
            "map_coco": _known_mean(precision),
            "map50_coco": _known_mean(precision[0]),  # indices of IOUS: 0.5 and 0.75
            "map75_coco": _known_mean(precision[5]),
        }

    def weighted(self, predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes]) -> Weigh:
        """All keys, weighted by image."""
        images = [image_record(found or (), gold) for found, gold in zip(predictions, golds, strict=True)]
        ranked = coco_ranked(coco_matched(images), len(images))
        return lambda weights: coco_values(ranked, weights)


class _Dataset:
    """The part of pycocotools' COCO class that its evaluation uses, built from lists of annotations."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = [{"id": index, **row} for index, row in enumerate(rows, start=1)]

    def getAnnIds(self, **_: Any) -> list[int]:
        return [row["id"] for row in self.rows]

    def loadAnns(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        return [self.rows[number - 1] for number in ids]

    def getImgIds(self) -> list[int]:
        return []

    def getCatIds(self) -> list[int]:
        return []


def coco_matched(images: Sequence[dict[str, Any]]) -> COCOeval:
    """The evaluation of all images by pycocotools, matched but not accumulated; prints nothing."""
    labels = sorted({row[0] for image in images for row in image["true"]})
    numbers = {label: index for index, label in enumerate(labels, start=1)}
    true, found = [], []
    for index, image in enumerate(images):
        for label, (x1, y1, x2, y2), ignored in image["true"]:
            box = [x1, y1, x2 - x1, y2 - y1]
            row = {"image_id": index, "category_id": numbers[label], "bbox": box, "area": box[2] * box[3]}
            true.append({**row, "iscrowd": int(ignored)})
        for label, (x1, y1, x2, y2), score in image["found"]:
            if label in numbers:
                box = [x1, y1, x2 - x1, y2 - y1]
                row = {"image_id": index, "category_id": numbers[label], "bbox": box, "area": box[2] * box[3]}
                found.append({**row, "score": score})
    evaluation = COCOeval(_Dataset(true), _Dataset(found), "bbox")
    evaluation.params.imgIds = list(range(len(images)))
    evaluation.params.catIds = list(numbers.values())
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [100]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation


def accumulated(evaluation: COCOeval) -> np.ndarray:
    """Precision (10 thresholds, 101 recalls, K classes); -1 for a class without an object to find."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0]


def coco_ranked(evaluation: COCOeval, count: int) -> list[list[Ranked]]:
    """For each class and threshold, the detections as matched by pycocotools; `count` is the number of images."""
    found = []
    for index in range(len(evaluation.params.catIds)):
        # pycocotools lists its results by class, then area range (there is one), then image.
        rows = evaluation.evalImgs[index * count : (index + 1) * count]
        objects = np.array(
            [0 if row is None else int((np.asarray(row["gtIgnore"]) == 0).sum()) for row in rows]
        )
        held = [(image, row) for image, row in enumerate(rows) if row is not None and len(row["dtScores"])]
        scores = np.concatenate([np.asarray(row["dtScores"], float) for _, row in held] or [np.zeros(0)])
        images = np.concatenate(
            [np.full(len(row["dtScores"]), image) for image, row in held] or [np.zeros(0, int)]
        )
        each = []
        for level in range(len(IOUS)):
            hit = np.concatenate([row["dtMatches"][level] > 0 for _, row in held] or [np.zeros(0, bool)])
            out = np.concatenate(
                [row["dtIgnore"][level].astype(bool) for _, row in held] or [np.zeros(0, bool)]
            )
            each.append(Ranked(scores[~out], hit[~out], images[~out], objects))
        found.append(each)
    return found


def coco_values(classes: Sequence[Sequence[Ranked]], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The keys of `CocoAP` (W,) for image weights (W, N)."""
    table = [
        [at_recalls(*curve(one, weights, ties_at_once=False), RECALLS) for one in each] for each in classes
    ]
    by_level = [known_means([each[level] for each in table], len(weights)) for level in range(len(IOUS))]
    return {
        "map_coco": np.mean(by_level, axis=0),
        "map50_coco": by_level[0],
        "map75_coco": by_level[5],
    }


def _known_mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else math.nan
