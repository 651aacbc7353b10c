"""Weighted metrics equal those of repeated samples, and confidence intervals are as wide as theory says."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from octavius.instruction.sample import (
    Boxes,
    ClassName,
    DescribedObject,
    DescribedObjects,
    FoundObject,
    LabelledBox,
    References,
)
from octavius.metrics import (
    Accuracy,
    AnyMention,
    Bleu,
    BoxRecallPrecision,
    Cider,
    CocoAP,
    DenseCaptions,
    ExactMatch,
    FoundCaptions,
    LastOfScene,
    NameInText,
    RougeL,
    VocAP,
)
from octavius.metrics.records import Records
from octavius.metrics.reporting import replayed
from octavius.metrics.resampling import intervals
from octavius.tasks import TASKS

NAMES = ("cat", "dog", "cow")
WORDS = ["a", "red", "dog", "on", "the", "mat", "by", "an", "old", "door", "of", "two", "small", "cats"]
Pairs = tuple[list[Any], list[Any]]


def names(rng: random.Random) -> Pairs:
    return [rng.choice((*NAMES, None)) for _ in range(8)], [
        ClassName(rng.choice(NAMES), NAMES) for _ in range(8)
    ]


def texts(rng: random.Random) -> Pairs:
    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))

    golds = [References((text(), text()), f"scene {n}") for n in range(8)]
    return [rng.choice((text(), None, golds[n].texts[0])) for n in range(8)], golds


def boxes(rng: random.Random) -> Pairs:
    def some(true: bool) -> tuple[LabelledBox, ...]:
        found = []
        for _ in range(rng.randint(0, 4)):
            x, y = rng.randint(0, 2) / 4, rng.randint(0, 2) / 4
            box = (x, y, x + rng.randint(1, 2) / 4, y + rng.randint(1, 2) / 4)
            found.append(LabelledBox(rng.choice(NAMES[:2]), box, rng.random(), true and rng.random() < 0.2))
        return tuple(found)

    return [some(False) for _ in range(8)], [Boxes(some(True)) for _ in range(8)]


def rooms(rng: random.Random) -> Pairs:
    def some(texts: int) -> tuple[DescribedObject, ...]:
        return tuple(
            DescribedObject(
                (rng.randint(0, 2) / 2, 0.0, 0.0, 1.0, 1.0, 1.0),
                tuple(" ".join(rng.choices(WORDS, k=5)) for _ in range(texts)),
            )
            for _ in range(rng.randint(1, 3))
        )

    return [some(1) for _ in range(8)], [DescribedObjects(some(2)) for _ in range(8)]


def found(rng: random.Random) -> Pairs:
    """Four scenes, two found boxes in each."""
    objects = rooms(rng)[1][:4]
    boxes = [(rng.randint(0, 2) / 2, 0.0, 0.0, 1.0, 1.0, 1.0) for _ in range(8)]
    golds = [FoundObject(f"scene {n % 4}", boxes[n], objects[n % 4].objects) for n in range(8)]
    return [rng.choice((" ".join(rng.choices(WORDS, k=5)), None)) for _ in range(8)], golds


CASES: list[tuple[Callable[[], Records], Callable[[random.Random], Pairs]]] = [
    (Accuracy, names),
    (NameInText, names),
    (AnyMention, names),
    (ExactMatch, texts),
    (Bleu, texts),
    (RougeL, texts),
    (Cider, texts),
    (LastOfScene, texts),
    (BoxRecallPrecision, boxes),
    (VocAP, boxes),
    (CocoAP, boxes),
    (DenseCaptions, rooms),
    (FoundCaptions, found),
]


def weighted(metric: Any, predictions: Sequence[Any], golds: Sequence[Any]) -> Any:
    return metric.weighted(predictions, golds)


def scored(metric: Records, predictions: Sequence[Any], golds: Sequence[Any]) -> dict[str, float]:
    metric.update(predictions, golds)
    return metric.compute()


def test_every_metric_of_the_tasks_is_tested_here() -> None:
    asked = [task.metrics(protocol) for task in TASKS.values() for protocol in task.protocols]
    assert {type(metric) for metrics in asked for metric in metrics} <= {make for make, _ in CASES}


@pytest.mark.parametrize(("make", "data"), CASES)
def test_weights_of_one_give_the_metric_itself(make: Callable[[], Records], data: Any) -> None:
    for seed in range(4):
        predictions, golds = data(random.Random(seed))
        values = weighted(make(), predictions, golds)(np.ones((2, 8)))
        expected = scored(make(), predictions, golds)
        for key, row in values.items():
            assert row == pytest.approx(expected[key], abs=1e-6, nan_ok=True), key
        missing = set(expected) - set(values)
        assert all(key.startswith("bleu") and "_at" in key for key in missing), "BLEU of dense captions alone"


@pytest.mark.parametrize(
    ("make", "data"),
    [case for case in CASES if case[0] not in (Cider, LastOfScene, CocoAP, DenseCaptions, FoundCaptions)],
)
def test_weights_are_copies(make: Callable[[], Records], data: Any) -> None:
    """All but CIDEr, whose words keep their weights, and pycocotools, for which equal scores have an order."""
    for seed in range(4):
        predictions, golds = data(random.Random(seed))
        counts = np.random.default_rng(seed).integers(0, 3, 8)
        values = weighted(make(), predictions, golds)(counts[None].astype(float))
        places = [index for index, count in enumerate(counts) for _ in range(count)]
        expected = scored(make(), [predictions[n] for n in places], [golds[n] for n in places])
        for key, row in values.items():
            assert row[0] == pytest.approx(expected[key], abs=1e-6, nan_ok=True), key


def test_a_metric_computed_anew_on_each_draw_equals_its_weighted_values() -> None:
    predictions, golds = boxes(random.Random(0))
    counts = np.random.default_rng(0).integers(0, 3, (3, 8)).astype(float)
    slow = replayed(BoxRecallPrecision(), predictions, golds)(counts)
    for key, row in weighted(BoxRecallPrecision(), predictions, golds)(counts).items():
        assert row == pytest.approx(slow[key], abs=1e-6, nan_ok=True)


def test_an_interval_of_a_share_is_as_wide_as_the_binomials() -> None:
    right = [n < 300 for n in range(400)]
    golds = [ClassName("cat", NAMES)] * 400
    said = ["cat" if one else "dog" for one in right]
    found = intervals([Accuracy()], said, golds, range(400))
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found["acc1"] == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)
    assert intervals([Accuracy()], said, golds, range(400)) == found, "seeded"


def test_samples_of_one_image_are_drawn_together() -> None:
    golds = [ClassName("cat", NAMES)] * 400
    said = ["cat" if n < 300 else "dog" for n in range(400)]
    low, high = intervals([Accuracy()], said, golds, [n // 100 for n in range(400)])["acc1"]
    assert (low, high) == (0.25, 1.0), "four images, each all right or all wrong"
    assert intervals([Accuracy()], said, golds, ["one"] * 400) == {}
