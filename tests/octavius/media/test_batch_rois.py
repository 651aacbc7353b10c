"""A whole model reads ragged batches of objects beside pictures: in training, one by one, and after a worker."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from octavius.decoder.decoder import Decoder
from octavius.encoders.base import Encoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.precomputed_rois import PrecomputedRois
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Media, References, Sample
from octavius.model import Octavius

READER = ReaderSizes(width=8, queries=2, heads=2, hidden=4, dropout=0.0)


@pytest.fixture(scope="module")
def model(decoder_folder: Path) -> Octavius:
    torch.manual_seed(0)
    encoders: dict[str, Encoder] = {
        "image": PrecomputedFeatures(3, 5),
        "cloud": PrecomputedRois(4, reader=READER),
    }
    made = Octavius(Decoder(str(decoder_folder)), encoders)
    made.decoder.requires_grad_(False)
    return made.train()


def room(name: str, objects: int) -> Sample:
    array = np.random.default_rng([*name.encode()]).normal(size=(objects, 10)).astype(np.float32)
    return Sample(name, "vqa3d", "b", {"cloud": Media(array=array)}, "", References(("",)))


def picture(name: str) -> Sample:
    array = np.random.default_rng([*name.encode()]).normal(size=(3, 5)).astype(np.float32)
    return Sample(name, "vqa", "b", {"image": Media(array=array)}, "", References(("",)))


def batch(
    model: Octavius, write: Callable[..., Batch], *samples: Sample, answer: str | None = "a red chair"
) -> Batch:
    rows = [(sample, f"What is in {sample.id}?", answer) for sample in samples]
    return write(model.processor(), *rows)


MIXED = (room("one", 1), picture("p"), room("none", 0), room("three", 3))


def by_row(model: Octavius, made: Batch) -> list[Tensor]:
    out = model(made)
    return [out.losses[out.rows == row] for row in range(len(made))]


def test_a_mixed_batch_is_its_samples_one_by_one(model: Octavius, write: Callable[..., Batch]) -> None:
    together = by_row(model, batch(model, write, *MIXED))
    for sample, losses in zip(MIXED, together, strict=True):
        [alone] = by_row(model, batch(model, write, sample))
        torch.testing.assert_close(losses, alone, rtol=1e-4, atol=1e-5)


def test_answers_are_the_same_alone_and_together(model: Octavius, write: Callable[..., Batch]) -> None:
    model.eval()
    together, _ = model.generate(batch(model, write, *MIXED, answer=None), 5)
    alone = [model.generate(batch(model, write, sample, answer=None), 5)[0][0] for sample in MIXED]
    model.train()
    assert together == alone


@pytest.mark.parametrize(
    "samples", [MIXED, MIXED[1:2], MIXED[2:3], MIXED[:1]], ids=["mixed", "image", "none", "one"]
)
def test_every_trained_tensor_takes_part_in_each_backward(
    model: Octavius, write: Callable[..., Batch], samples: tuple[Sample, ...]
) -> None:
    model.zero_grad()
    model(batch(model, write, *samples)).losses.sum().backward()
    for name, tensor in model.projectors.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


def test_a_batch_travels(model: Octavius, write: Callable[..., Batch]) -> None:
    made = batch(model, write, *MIXED)
    assert made.media["cloud"].num_graphs == 3
    assert {name: len(places) for name, places in made.slots.items()} == {"image": 3, "cloud": 6}
    moved = pickle.loads(pickle.dumps(made)).to("cpu")
    assert torch.equal(moved.media["cloud"].x, made.media["cloud"].x)
    assert torch.equal(model(moved).losses, model(made).losses)
    assert made.to("meta").media["cloud"].boxes.is_meta


def test_a_configuration_names_encoder_and_reader() -> None:
    parser = ArgumentParser()
    parser.add_argument("--encoders", type=dict[str, Encoder])
    init: dict[str, Any] = {"width": 4, "drop": 0.1, "reader": {"width": 32, "queries": 4}, "use": "boxes"}
    path = "octavius.encoders.rois.precomputed_rois.PrecomputedRois"
    parsed = parser.parse_object({"encoders": {"cloud": {"class_path": path, "init_args": init}}})
    encoder = parser.instantiate(parsed).encoders["cloud"]
    assert isinstance(encoder, PrecomputedRois)
    assert (encoder.reader, encoder.drop, encoder.use) == (ReaderSizes(width=32, queries=4), 0.1, "boxes")
