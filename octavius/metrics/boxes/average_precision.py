"""PASCAL VOC average precision, and curves of weighted detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavius.boxes import iou
from octavius.instruction.sample import Boxes, LabelledBox
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records
from octavius.metrics.reporting import Weigh

THRESHOLD = 0.5
ELEVEN = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Ranked:
    """All D detections of one class in N images.

    Attributes:
        scores: (D,).
        hits: (D,) whether each is a true positive; those that match an ignored object are left out.
        images: (D,) index of the image of each.
        objects: (N,) number of objects to find in each image.
    """

    scores: np.ndarray
    hits: np.ndarray
    images: np.ndarray
    objects: np.ndarray


class BoxRecords(Records):
    """Predicted boxes with their scores, and true boxes, by image."""

    def update(self, predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes]) -> None:
        """Adds the predicted boxes of an image, or None, per gold."""
        check_pairs(predictions, golds, Boxes)
        self.records += [
            image_record(found or (), gold) for found, gold in zip(predictions, golds, strict=True)
        ]


class VocAP(BoxRecords):
    """Mean average precision at IoU 0.5 by the rules of PASCAL VOC.

    The detections of a class in all images are ranked by score. Those of equal score form one point of the
    curve, so that their order does not matter; under the keys that end in `_devkit` they are ordered as in
    VOC's devkit, which sorts its results file stably. Each detection is compared with the object of its class
    in its image with the largest IoU: at 0.5 or more it is a true positive, unless a higher-ranked one has
    matched the same object. One that matches an ignored (difficult) object counts neither way. VOC2007
    averages the interpolated precision at eleven recalls, later years take the area under the curve.

    Classes without an object to find are excluded; without any, the values are nan. Labels ignore case.
    """

    columns = ("map50",)

    def compute(self) -> dict[str, float]:
        """The keys map50 (area), map50_11point, and both with the suffix _devkit, from 0 to 1."""
        values = voc_values(voc_ranked(self.records), np.ones((1, len(self.records))))
        return {key: float(value[0]) for key, value in values.items()}

    def weighted(self, predictions: Sequence[Sequence[LabelledBox] | None], golds: Sequence[Boxes]) -> Weigh:
        """All keys, weighted by image."""
        pairs = zip(predictions, golds, strict=True)
        ranked = voc_ranked([image_record(found or (), gold) for found, gold in pairs])
        return lambda weights: voc_values(ranked, weights)


def image_record(found: Sequence[LabelledBox], gold: Boxes) -> dict[str, Any]:
    """Found [label, box, score] and true [label, box, ignored] of one image; labels stripped and case-folded."""
    return {
        "found": [[box.label.strip().casefold(), box.box, box.score] for box in found],
        "true": [[box.label.strip().casefold(), box.box, box.ignored] for box in gold.objects],
    }


def voc_ranked(images: Sequence[dict[str, Any]]) -> list[Ranked]:
    """The ranked detections of every class with an object to find, matched by VOC's rule."""
    labels = sorted({label for image in images for label, _, ignored in image["true"] if not ignored})
    return [_voc_class(images, label) for label in labels]


def _voc_class(images: Sequence[dict[str, Any]], label: str) -> Ranked:
    scores, hits, indices, objects = [], [], [], []
    for index, image in enumerate(images):
        true = [(box, ignored) for name, box, ignored in image["true"] if name == label]
        found = sorted(
            ((box, score) for name, box, score in image["found"] if name == label), key=lambda it: -it[1]
        )
        objects.append(sum(not ignored for _, ignored in true))
        taken: set[int] = set()
        for box, score in found:
            overlaps = [iou(box, other) for other, _ in true]
            best = int(np.argmax(overlaps)) if overlaps else -1
            over = best >= 0 and overlaps[best] >= THRESHOLD
            if over and true[best][1]:
                continue
            scores.append(score)
            hits.append(over and best not in taken)
            indices.append(index)
            taken |= {best} if over else set()
    return Ranked(np.array(scores), np.array(hits, bool), np.array(indices, int), np.array(objects))


def voc_values(classes: Sequence[Ranked], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The keys of `VocAP` (W,) for image weights (W, N)."""
    values = {}
    for end, at_once in (("", True), ("_devkit", False)):
        curves = [curve(ranked, weights, at_once) for ranked in classes]
        values[f"map50{end}"] = known_means([_area(*one) for one in curves], len(weights))
        elevens = [at_recalls(*one, ELEVEN) for one in curves]
        values[f"map50_11point{end}"] = known_means(elevens, len(weights))
    return values


def curve(ranked: Ranked, weights: np.ndarray, ties_at_once: bool) -> tuple[np.ndarray, np.ndarray]:
    """Recall and interpolated precision (W, D) at falling scores; recall is nan without objects to find.

    Args:
        ranked: the detections of one class.
        weights: (W, N) weight of each image.
        ties_at_once: treat detections of equal score as one point.
    """
    order = np.argsort(-ranked.scores, kind="stable")
    counts = weights[:, ranked.images[order]]
    hits = np.cumsum(counts * ranked.hits[order], axis=1)
    alls = np.cumsum(counts, axis=1)
    objects = weights @ ranked.objects
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(objects[:, None] > 0, hits / objects[:, None], np.nan)
        precision = np.where(alls > 0, hits / alls, 0.0)
    if ties_at_once and len(order):
        scores = ranked.scores[order]
        last = np.append(scores[1:] != scores[:-1], True)
        recall, precision = recall[:, last], precision[:, last]
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if not recall.shape[1]:  # no detections: a single point at recall 0
        recall, precision = np.where(objects[:, None] > 0, 0.0, np.nan), np.zeros((len(weights), 1))
    return recall, precision


def _area(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return (np.diff(recall, axis=1, prepend=0.0) * precision).sum(1)


def at_recalls(recall: np.ndarray, precision: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean (W,) of the precision at the given recalls; zero at recalls that are not reached."""
    total = np.zeros(len(recall))
    padded = np.append(precision, np.zeros((len(precision), 1)), axis=1)
    for one in wanted:
        first = (recall < one - 1e-9).sum(1)
        total += np.take_along_axis(padded, first[:, None], axis=1)[:, 0]
    return np.where(np.isnan(recall[:, 0]), np.nan, total / len(wanted))


def known_means(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Mean over classes (width,), ignoring nan."""
    table = np.stack(rows) if rows else np.full((1, width), np.nan)
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.where(known, table, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
