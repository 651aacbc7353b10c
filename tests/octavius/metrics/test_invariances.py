"""The same samples in other orders, batches and processes come in; the same scores of every metric go out."""

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
from torchmetrics import Metric, MetricCollection

from octavius.instruction.sample import Boxes, Choice, ClassName, LabelledBox, References
from octavius.metrics import Accuracy, Bleu, BoxRecallPrecision, Cider

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
CASES: list[tuple[Callable[[], Metric], list[Pair]]] = [
    (Bleu, CAPTIONS),
    (Cider, CAPTIONS),
    (BoxRecallPrecision, DETECTIONS),
    (Accuracy, ANSWERS),
]


def feed(metric: Metric, pairs: Sequence[Pair]) -> None:
    metric.update([prediction for prediction, _ in pairs], [gold for _, gold in pairs])


def whole(make: Callable[[], Metric], pairs: Sequence[Pair]) -> dict[str, float]:
    metric = make()
    feed(metric, pairs)
    return {key: value.item() for key, value in metric.compute().items()}


@pytest.mark.parametrize(("make", "pairs"), CASES)
@given(data=st.data())
def test_order_and_batches_make_no_difference(
    make: Callable[[], Metric], pairs: list[Pair], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(pairs))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pairs)), max_size=3)))
    metric = make()
    for start, end in zip([0, *cuts], [*cuts, len(pairs)], strict=True):
        feed(metric, order[start:end])
    found = {key: value.item() for key, value in metric.compute().items()}
    assert found == pytest.approx(whole(make, pairs), abs=1e-6)


@pytest.mark.parametrize(("make", "pairs"), CASES)
def test_scores_of_a_batch_and_of_all_batches_come_from_one_call(
    make: Callable[[], Metric], pairs: list[Pair]
) -> None:
    metric = make()
    for half in (pairs[:2], pairs[2:]):
        batch = metric([prediction for prediction, _ in half], [gold for _, gold in half])
        found = {key: value.item() for key, value in batch.items()}
        assert found == pytest.approx(whole(make, half), nan_ok=True)
    metric_found = {key: value.item() for key, value in metric.compute().items()}
    assert metric_found == pytest.approx(whole(make, pairs), abs=1e-6)
    metric.reset()
    feed(metric, pairs[:2])
    assert metric.compute()[next(iter(metric_found))].item() == pytest.approx(
        next(iter(whole(make, pairs[:2]).values()))
    )


def test_a_collection_holds_every_key_once() -> None:
    collection = MetricCollection([Bleu(), Cider()], prefix="coco/")
    for pair in CAPTIONS:  # the second update is the one that may share states within the collection
        collection.update([pair[0]], [pair[1]])
    found = {key: value.item() for key, value in collection.compute().items()}
    expected = whole(Bleu, CAPTIONS) | whole(Cider, CAPTIONS)
    assert set(found) == {"coco/bleu1", "coco/bleu2", "coco/bleu3", "coco/bleu4", "coco/cider"}
    assert found == pytest.approx({f"coco/{key}": value for key, value in expected.items()}, abs=1e-6)


def _score_a_share(rank: int, folder: str) -> None:
    """One of two processes: scores an uneven share of each case, then a share that may be nothing at all."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=2, rank=rank)
    scores = {}
    for make, pairs in CASES:
        for name, shares in (("uneven", (pairs[:2], pairs[2:])), ("one idle", (pairs, []))):
            metric = make()
            if shares[rank]:
                feed(metric, shares[rank])
            found = metric.compute()
            scores[f"{type(metric).__name__}, {name}"] = {key: value.item() for key, value in found.items()}
    torch.save(scores, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_score_as_one_even_when_one_saw_no_sample(tmp_path: Path) -> None:
    # forked, because a fresh interpreter would spend many seconds on importing torchmetrics
    start_processes(_score_a_share, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in (0, 1):
        scores = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(scores) == 2 * len(CASES)
        for make, pairs in CASES:
            for name in ("uneven", "one idle"):
                found = scores[f"{type(make()).__name__}, {name}"]
                assert found == pytest.approx(whole(make, pairs), abs=1e-6)
