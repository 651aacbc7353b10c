"""Dense captioning metrics: captions of detected objects, scored at IoU thresholds."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from octavius.boxes3d import giou3d, iou3d, stack
from octavius.instruction.sample import DescribedObject, DescribedObjects
from octavius.metrics.boxes.assignment import best_assignment
from octavius.metrics.captions.bleu import bleu_scores
from octavius.metrics.captions.cider import cider_scores
from octavius.metrics.captions.ngrams import LONGEST, ptb_tokens
from octavius.metrics.captions.rouge import rouge_l
from octavius.metrics.pairs import Tokens, check_pairs
from octavius.metrics.records import Records, mean
from octavius.metrics.reporting import Weigh, shares

THRESHOLDS = (0.25, 0.5)

Captioned: TypeAlias = tuple[float, Tokens]
"""The IoU of a predicted object with a true one, and the tokens of its text."""

COLUMNS = ("recall50", "precision50", "cider_at25", "cider_at50", "cider_f1_at50", "rouge_l_at50")
"""The keys that tables show."""


class DenseCaptions(Records):
    """Caption metrics of the objects of a scene, in which a caption counts only if its box is right.

    Scan2Cap's m@kIoU: each predicted box is assigned to the true object with the largest IoU, and each true
    object takes the caption of its best box. If the IoU is not above k, the caption is empty. The caption
    metric is computed over all true objects with all their references.

    F1, used by Scan2Cap's benchmark since 2022: predicted and true objects are matched one to one, maximising
    the sum of generalised IoU. The summed scores of pairs with an IoU above k, divided by the number of
    predicted objects, are the precision, divided by that of true objects the recall. BLEU-4 is sentence BLEU
    here.

    The published evaluators differ in three ways. They give an object without a caption the text "sos eos"
    and put these words around every reference too, so that a miss scores: ROUGE-L 0.14 against one reference
    of 20 words, more against shorter ones. Here the text is empty and scores 0. They cut references to 30
    words, which is left to readers here. METEOR, and with it the benchmark's mean average precision, is
    omitted: it needs Java.

    A prediction of None is no objects. Without a true object the values are nan. The records are the
    `scene_record` of each scene.
    """

    columns: tuple[str, ...] = COLUMNS
    headline = "cider_at50"

    def update(
        self, predictions: Sequence[Sequence[DescribedObject] | None], golds: Sequence[DescribedObjects]
    ) -> None:
        """Adds the predicted objects of a scene, each with one text, or None, per gold."""
        check_pairs(predictions, golds, DescribedObjects)
        for index, gold in enumerate(golds):
            if not all(item.texts for item in gold.objects):
                raise ValueError(
                    f"gold {index} has an object without a text; leave objects out that nobody described"
                )
        pairs = zip(predictions, golds, strict=True)
        self.records += [scene_record(found or (), gold.objects) for found, gold in pairs]

    def compute(self) -> dict[str, float]:
        """Scores at IoU above 0.25 and 0.5, with k = 25 and 50 in their keys.

        cider_at<k>, bleu1_at<k> to bleu4_at<k>, rouge_l_at<k>: m@kIoU. cider_f1_at<k>, bleu4_f1_at<k>,
        rouge_l_f1_at<k>: F1. recall<k>, precision<k>: of the boxes alone, matched one to one. CIDEr ranges
        from 0 to 10, all others to 1.
        """
        scenes = self.records
        references = [texts for scene in scenes for texts in scene["references"]]
        best, paired = ([item for scene in scenes for item in scene[key]] for key in ("best", "paired"))
        predicted = sum(scene["predicted"] for scene in scenes)
        values = {}
        for threshold in THRESHOLDS:
            k = f"{threshold * 100:.0f}"
            for key, score in _scores_at(_captions(best, references, threshold)).items():
                values[f"{key}_at{k}"] = score
            for key, each in _scores_of_each(_captions(paired, references, threshold)).items():
                values[f"{key}_f1_at{k}"] = _f1(sum(each), predicted, len(each))
            right = sum(overlap > threshold for overlap, _ in paired)
            values[f"recall{k}"] = _share(right, len(paired), empty=math.nan)
            values[f"precision{k}"] = _share(right, predicted, empty=0.0 if paired else math.nan)
        return values

    def weighted(
        self, predictions: Sequence[Sequence[DescribedObject] | None], golds: Sequence[DescribedObjects]
    ) -> Weigh:
        """All keys except m@kIoU of BLEU, weighted by scene."""
        parts = [shares({key: part}, whole) for key, (part, whole) in scene_sums(predictions, golds).items()]
        return lambda weights: {key: row for part in parts for key, row in part(weights).items()}


def scene_sums(
    predictions: Sequence[Sequence[DescribedObject] | None], golds: Sequence[DescribedObjects]
) -> dict[str, tuple[list[float], list[float]]]:
    """For each key, the contribution of every scene to numerator and denominator; without corpus BLEU."""
    scenes = [scene_record(found or (), gold.objects) for found, gold in zip(predictions, golds, strict=True)]
    owners = [index for index, scene in enumerate(scenes) for _ in scene["references"]]
    references = [texts for scene in scenes for texts in scene["references"]]
    best, paired = ([item for scene in scenes for item in scene[key]] for key in ("best", "paired"))
    true = [float(len(scene["references"])) for scene in scenes]
    predicted = [float(scene["predicted"]) for scene in scenes]
    both = [one + other for one, other in zip(true, predicted, strict=True)]

    def by_scene(values: Sequence[float]) -> list[float]:
        sums = [0.0] * len(scenes)
        for owner, value in zip(owners, values, strict=True):
            sums[owner] += value
        return sums

    found: dict[str, tuple[list[float], list[float]]] = {}
    for threshold in THRESHOLDS:
        k = f"{threshold * 100:.0f}"
        at = _scores_of_each(_captions(best, references, threshold))
        found |= {f"{key}_at{k}": (by_scene(at[key]), true) for key in ("cider", "rouge_l")}
        f1 = _scores_of_each(_captions(paired, references, threshold))
        found |= {f"{key}_f1_at{k}": ([2 * one for one in by_scene(each)], both) for key, each in f1.items()}
        right = by_scene([float(overlap > threshold) for overlap, _ in paired])
        found |= {f"recall{k}": (right, true), f"precision{k}": (right, predicted)}
    return found


def scene_record(found: Sequence[DescribedObject], true: Sequence[DescribedObject]) -> dict[str, Any]:
    """The record of one scene.

    Returns:
        references: tokens of the texts of each true object. best: for each of these, the IoU and the tokens
            of its best predicted object. paired: the same for the one it is matched with; IoU 0 if there is
            none. predicted: number of predicted objects.
    """
    texts = [_one_text(item) for item in found]
    unmatched: Captioned = (0.0, [])
    best, paired = [unmatched] * len(true), [unmatched] * len(true)
    first, second = (_boxes(items, whose) for items, whose in ((found, "predicted"), (true, "true")))
    overlaps = iou3d(first[:, None], second)
    for index in range(len(found) if true else 0):
        nearest = int(overlaps[index].argmax())
        if overlaps[index, nearest] > best[nearest][0]:
            best[nearest] = (float(overlaps[index, nearest]), texts[index])
    for index, other in best_assignment(giou3d(first[:, None], second)):
        paired[other] = (float(overlaps[index, other]), texts[index])
    references = [[ptb_tokens(text) for text in item.texts] for item in true]
    return {"references": references, "best": best, "paired": paired, "predicted": len(found)}


def _one_text(item: DescribedObject) -> Tokens:
    if len(item.texts) != 1:
        raise ValueError(
            f"a predicted object has one text, but this one has {len(item.texts)}: {item}; check the task's parse()"
        )
    return ptb_tokens(item.texts[0])


def _boxes(items: Sequence[DescribedObject], whose: str) -> np.ndarray:
    boxes = stack([item.box for item in items])
    if not np.isfinite(boxes).all():
        raise ValueError(
            f"a box of the {whose} objects has a number that is not finite: {[item.box for item in items]}; "
            "leave such objects out"
        )
    return boxes


def _captions(
    objects: Sequence[Captioned], references: Sequence[Sequence[Tokens]], threshold: float
) -> list[tuple[Tokens, Sequence[Tokens]]]:
    """The caption of each true object, empty if its IoU is not above the threshold, and its references."""
    captions = [text if overlap > threshold else [] for overlap, text in objects]
    return list(zip(captions, references, strict=True))


def _scores_at(pairs: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> dict[str, float]:
    """The caption metrics over all true objects as one corpus."""
    each = _scores_of_each(pairs)
    bleu = bleu_scores(pairs) if pairs else [math.nan] * LONGEST
    named = {f"bleu{size}": score for size, score in enumerate(bleu, start=1)}
    return {"cider": mean(each["cider"]), **named, "rouge_l": mean(each["rouge_l"])}


def _scores_of_each(pairs: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> dict[str, list[float]]:
    """The caption metrics of each true object."""
    return {
        "cider": cider_scores(pairs),
        "bleu4": [bleu_scores([pair])[-1] for pair in pairs],
        "rouge_l": [rouge_l(*pair) for pair in pairs],
    }


def _f1(total: float, predicted: int, true: int) -> float:
    """The harmonic mean of total / predicted and total / true."""
    return 2 * total / (predicted + true) if true else math.nan


def _share(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty
