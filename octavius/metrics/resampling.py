"""Predictions, golds and a metric come in; what it would be on resampled data, and so an interval, goes out.

Bootstrap (Efron, 1979): images or scenes are drawn anew, as many as there are, with replacement, each with all its
samples; an interval holds the middle 95 % of the values on such draws. Instead of scoring every draw anew, a sample
counts as often as its image was drawn. The weights of CIDEr's words stay those of the whole set.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torchmetrics import Metric

from octavius.instruction.sample import DescribedObject, DescribedObjects
from octavius.metrics.accuracy import Accuracy, NameInText, is_right
from octavius.metrics.boxes.average_precision import VocAP, image_record, voc_ranked, voc_values
from octavius.metrics.boxes.box_matching import BoxRecallPrecision, box_counts
from octavius.metrics.boxes.coco_precision import CocoAP, coco_matched, coco_ranked, coco_values
from octavius.metrics.captions.bleu import Bleu, bleu_of_counts, sentence_counts
from octavius.metrics.captions.cider import Cider, cider_scores
from octavius.metrics.captions.dense_captions import DenseCaptions, scene_sums
from octavius.metrics.captions.found_captions import FoundCaptions
from octavius.metrics.captions.rouge import RougeL, rouge_l
from octavius.metrics.captions.scene_captions import LastOfScene
from octavius.metrics.exact_match import ExactMatch, matches
from octavius.metrics.pairs import caption_tokens
from octavius.metrics.published.mentions import AnyMention, mentions

Weigh: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights of N samples in W draws (W, N) come in, the values (W,) of each key go out."""

LEVEL = 0.95
AT_ONCE = 100
"""Draws that are held in memory together."""


def intervals(
    metrics: Sequence[Metric],
    predictions: Sequence[Any],
    golds: Sequence[Any],
    units: Sequence[Hashable],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of every key of the metrics; none for a single unit, which tells nothing of others.

    Args:
        metrics: of the task and protocol; what they hold is not looked at.
        predictions: N parsed answers.
        golds: N.
        units: for each sample what is drawn with all its samples, such as its image.
        draws: resampled data sets.
        seed: of the draws.
    """
    numbers = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    if len(numbers) < 2:
        return {}
    places = np.array([numbers[unit] for unit in units])
    weighs = [WEIGHED[type(metric)](metric, predictions, golds) for metric in metrics]
    generator = np.random.default_rng(seed)
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, draws, AT_ONCE):
        size = (min(AT_ONCE, draws - start), len(numbers))
        drawn = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size[0])
        weights = drawn[:, places].astype(float)
        for weigh in weighs:
            for key, row in weigh(weights).items():
                values.setdefault(key, []).append(row)
    tail = 100 * (1 - LEVEL) / 2
    found = {}
    for key, rows in values.items():
        known = np.concatenate(rows)
        known = known[~np.isnan(known)]
        if len(known):
            low, high = np.percentile(known, [tail, 100 - tail])
            found[key] = (float(low), float(high))
    return found


def _shares(parts: Mapping[str, Sequence[float]], whole: Sequence[float] | None = None) -> Weigh:
    """Sums of parts over the sum of a whole, by default of one for each sample."""
    table = np.array(list(parts.values()), float).T

    def weigh(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = weights.sum(1) if whole is None else weights @ np.array(whole, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (weights @ table) / counts[:, None]
        return dict(zip(parts, values.T, strict=True))

    return weigh


def _verdicts(key: str, right: Callable[[Any, Any], bool]) -> Callable[[Metric, Any, Any], Weigh]:
    def prepare(_: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
        return _shares({key: [float(right(*pair)) for pair in zip(predictions, golds, strict=True)]})

    return prepare


def _exact(_: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    rows = [matches(said, gold.texts) for said, gold in zip(predictions, golds, strict=True)]
    keys = ("em1", "em1_normalised", "em1_refined")
    return _shares({key: [float(row[place]) for row in rows] for place, key in enumerate(keys)})


def _cider(metric: Any, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    return _shares({"cider": cider_scores(caption_tokens(predictions, golds, metric.tokenize))})


def _rouge(metric: Any, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    return _shares(
        {"rouge_l": [rouge_l(*pair) for pair in caption_tokens(predictions, golds, metric.tokenize)]}
    )


def _bleu(metric: Any, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    table = np.array(
        [sentence_counts(*pair) for pair in caption_tokens(predictions, golds, metric.tokenize)], float
    )
    return lambda weights: bleu_of_counts(weights @ table)


def _last_of_scene(metric: Any, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    last = list({gold.scene: place for place, gold in enumerate(golds)}.values())
    pairs = caption_tokens([predictions[n] for n in last], [golds[n] for n in last], metric.tokenize)
    firsts = [(said, texts[:1]) for said, texts in pairs]
    means = _shares({"cider": cider_scores(firsts), "rouge_l": [rouge_l(*pair) for pair in firsts]})
    table = np.array([sentence_counts(*pair) for pair in firsts], float)
    return lambda weights: means(weights[:, last]) | bleu_of_counts(weights[:, last] @ table)


def _boxes(metric: Any, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    matched, predicted, true = (
        list(part) for part in zip(*box_counts(predictions, golds, metric.agree), strict=True)
    )
    recall, precision = _shares({"recall50": matched}, true), _shares({"precision50": matched}, predicted)
    return lambda weights: (
        recall(weights) | {key: np.nan_to_num(row) for key, row in precision(weights).items()}
    )


def _voc(_: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    ranked = voc_ranked(
        [image_record(found or (), gold) for found, gold in zip(predictions, golds, strict=True)]
    )
    return lambda weights: voc_values(ranked, weights)


def _coco(_: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    images = [image_record(found or (), gold) for found, gold in zip(predictions, golds, strict=True)]
    ranked = coco_ranked(coco_matched(images), len(images))
    return lambda weights: coco_values(ranked, weights)


def _dense(_: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    parts = [_shares({key: part}, whole) for key, (part, whole) in scene_sums(predictions, golds).items()]
    return lambda weights: {key: row for part in parts for key, row in part(weights).items()}


def _found(metric: Metric, predictions: Sequence[Any], golds: Sequence[Any]) -> Weigh:
    """All boxes of a scene are of one unit, so that any of them tells how often it was drawn."""
    places: dict[str, list[int]] = {}
    for place, gold in enumerate(golds):
        places.setdefault(gold.scene, []).append(place)
    found = [
        tuple(DescribedObject(golds[n].box, (predictions[n] or "",)) for n in rows)
        for rows in places.values()
    ]
    last = [rows[-1] for rows in places.values()]
    weigh = _dense(metric, found, [DescribedObjects(golds[n].objects) for n in last])
    return lambda weights: weigh(weights[:, last])


WEIGHED: dict[type[Metric], Callable[[Metric, Sequence[Any], Sequence[Any]], Weigh]] = {
    Accuracy: _verdicts("acc1", is_right),
    NameInText: _verdicts(
        "acc1_name_in_text", lambda text, gold: text is not None and gold.name in text.lower()
    ),
    AnyMention: _verdicts("acc1_any_mention", lambda text, gold: mentions(text or "", gold)),
    ExactMatch: _exact,
    Cider: _cider,
    Bleu: _bleu,
    RougeL: _rouge,
    LastOfScene: _last_of_scene,
    BoxRecallPrecision: _boxes,
    VocAP: _voc,
    CocoAP: _coco,
    DenseCaptions: _dense,
    FoundCaptions: _found,
}
"""How each metric is taken of weighted samples."""
