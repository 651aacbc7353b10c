"""Invariants of every metric: order, batches and processes do not matter; mismatched pairs are errors."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from octavius.evaluation.generation import gathered
from octavius.instruction.sample import (
    Boxes,
    Boxes3D,
    Choice,
    ClassName,
    DescribedObject,
    DescribedObjects,
    LabelledBox,
    LabelledBox3D,
    References,
)
from octavius.metrics import (
    Accuracy,
    Bleu,
    BoxRecallPrecision,
    Cider,
    DenseCaptions,
    ExactMatch,
    LastOfScene,
    MeanAP3D,
    NameInText,
    RougeL,
)
from octavius.metrics.records import Records
from octavius.metrics.reporting import measured

Pair = tuple[Any, Any]

CAPTIONS: list[Pair] = [
    ("A dog runs on the beach.", References(("a dog is running on the beach", "the dog's on a beach"))),
    (None, References(("two cats sleep on a bed",))),
    ("a red bus \u2013 it's in the street", References(("a bus in the street", "a red bus"))),
    ("", References(("a man in a t-shirt",))),
    ("a man rides a horse on the beach", References(("a man riding a horse", "a man rides a horse"))),
]


def _box(label: str, *edges: float) -> LabelledBox:
    return LabelledBox(label, (edges[0], edges[1], edges[2], edges[3]))


DOGS = (_box("dog", 0, 0, 0.5, 0.5), _box("dog", 0.1, 0, 0.6, 0.5), _box("cat", 0.5, 0.5, 1, 1))
DETECTIONS: list[Pair] = [
    (DOGS[:2], Boxes(DOGS)),
    (None, Boxes(DOGS[2:])),
    ((), Boxes(())),
    (DOGS[::-1], Boxes(DOGS[:1])),
    ((_box("Cat ", 0.5, 0.5, 1, 0.9),), Boxes(DOGS[2:])),
]
ANSWERS: list[Pair] = [
    (1, Choice(("a", "b"), 1)),
    (None, Choice(("a", "b"), 0)),
    ("dog", ClassName("Dog", ("Dog", "cat"))),
    ("cat", ClassName("Dog", ("Dog", "cat"))),
    (0, Choice(("a", "b", "c"), 0)),
]


def _object(x: float, text: str) -> DescribedObject:
    return DescribedObject((x, 0, 0, 2, 2, 2), (text,))


CHAIRS = tuple(LabelledBox3D("chair", (x, 0, 0, 2, 2, 2), 0.5) for x in (0, 0.5, 5))
CLOUDS: list[Pair] = [
    (CHAIRS, Boxes3D(CHAIRS[::2])),
    (None, Boxes3D(CHAIRS[:1])),
    (CHAIRS[1:], Boxes3D(())),
    (CHAIRS[1:2], Boxes3D((*CHAIRS[:1], LabelledBox3D("table", (0, 0, 0, 1, 1, 1))))),
]
ROOMS: list[Pair] = [
    ((_object(0, "a red chair"), _object(4, "a bed")), DescribedObjects((_object(0, "the red chair"),))),
    (None, DescribedObjects((_object(0, "a lamp by the door"),))),
    ((_object(1, "a lamp"),), DescribedObjects((_object(0, "the lamp"), _object(1.5, "a red bed")))),
]
CASES: list[tuple[Callable[[], Records], list[Pair]]] = [
    (Bleu, CAPTIONS),
    (Cider, CAPTIONS),
    (RougeL, CAPTIONS),
    (ExactMatch, CAPTIONS),
    (MeanAP3D, CLOUDS),
    (DenseCaptions, ROOMS),
    (BoxRecallPrecision, DETECTIONS),
    (Accuracy, ANSWERS),
]
# Of these one hangs on the order of samples by design, and the other is as simple as Accuracy.
MORE: list[tuple[Callable[[], Records], list[Pair]]] = [
    (
        LastOfScene,
        [(text, References(gold.texts, f"scene{i % 2}")) for i, (text, gold) in enumerate(CAPTIONS)],
    ),
    (NameInText, ANSWERS[2:4]),
]
ALL = [make for make, _ in [*CASES, *MORE]]


def feed(metric: Records, pairs: Sequence[Pair]) -> None:
    metric.update([prediction for prediction, _ in pairs], [gold for _, gold in pairs])


def whole(make: Callable[[], Records], pairs: Sequence[Pair]) -> dict[str, float]:
    metric = make()
    feed(metric, pairs)
    return metric.compute()


@pytest.mark.parametrize(("make", "pairs"), CASES)
@given(data=st.data())
def test_order_and_batches_make_no_difference(
    make: Callable[[], Records], pairs: list[Pair], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(pairs))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pairs)), max_size=3)))
    metric = make()
    for start, end in zip([0, *cuts], [*cuts, len(pairs)], strict=True):
        feed(metric, order[start:end])
    found = metric.compute()
    assert found == pytest.approx(whole(make, pairs), abs=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_nothing_measured_is_nan(make: Callable[[], Records]) -> None:
    metric = make()
    assert all(map(math.isnan, metric.compute().values()))
    metric.update([], [])
    assert all(map(math.isnan, metric.compute().values()))


@pytest.mark.parametrize("make", ALL)
def test_unequal_lengths_are_refused_with_both_numbers(make: Callable[[], Records]) -> None:
    with pytest.raises(ValueError, match="2 predictions and 1 golds"):
        make().update([None, None], [References(("a dog",))])


@pytest.mark.parametrize("make", ALL)
def test_a_gold_of_another_task_is_refused_by_its_place_and_kind(make: Callable[[], Records]) -> None:
    """The first gold is right, the second one no metric scores."""
    pairs = next(pairs for known, pairs in [*CASES, *MORE] if known is make)
    with pytest.raises(ValueError, match="gold 1 is a str, but this metric scores "):
        make().update([None, None], [pairs[0][1], "a dog"])


@pytest.mark.parametrize("make", [Bleu, Cider, RougeL, LastOfScene])
def test_a_caption_without_references_is_refused(make: Callable[[], Records]) -> None:
    with pytest.raises(ValueError, match="gold 1 has no reference text"):
        make().update(["a", "b"], [References(("a dog",)), References(())])


@pytest.mark.parametrize(("make", "pairs"), [*CASES, *MORE])
def test_a_reset_forgets_all_and_a_measurement_nothing(
    make: Callable[[], Records], pairs: list[Pair]
) -> None:
    metric = make()
    feed(metric, pairs)
    half = measured(metric, [said for said, _ in pairs[:2]], [gold for _, gold in pairs[:2]])
    assert half == pytest.approx(whole(make, pairs[:2]), nan_ok=True)
    assert metric.compute() == pytest.approx(whole(make, pairs))
    metric.reset()
    feed(metric, pairs[:2])
    assert metric.compute() == pytest.approx(half, nan_ok=True)


def _score_a_share(rank: int, folder: str) -> None:
    """One of two processes: scores an uneven share of each case, then a share that may be nothing at all."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=2, rank=rank)
    scores = {}
    for make, pairs in [*CASES, *MORE]:
        for name, shares in (("uneven", (pairs[:2], pairs[2:])), ("one idle", (pairs, []))):
            metric = make()
            if shares[rank]:
                feed(metric, shares[rank])
            metric.records = gathered(metric.records)
            scores[f"{type(metric).__name__}, {name}"] = metric.compute()
    torch.save(scores, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_score_as_one_even_when_one_saw_no_sample(tmp_path: Path) -> None:
    # forked, because a fresh interpreter would spend many seconds on importing torch
    start_processes(_score_a_share, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in (0, 1):
        scores = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(scores) == 2 * len(CASES + MORE)
        for make, pairs in [*CASES, *MORE]:
            for name in ("uneven", "one idle"):
                found = scores[f"{type(make()).__name__}, {name}"]
                assert found == pytest.approx(whole(make, pairs), abs=1e-6)
