"""Precomputed features of objects: noise and losses in training alone, and blind controls see no more."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.precomputed_rois import PrecomputedRois
from octavius.instruction.sample import Media

SIZES = ReaderSizes(width=8, queries=2, heads=2, hidden=4)


def rooms(*counts: int, width: int = 3) -> Batch:
    """A batch of rooms with that many objects, as the data workers make it."""
    loader, rng = PrecomputedRois(width).loader(), np.random.default_rng(0)
    return loader.collate([loader(Media(array=rng.normal(size=(count, width + 6)))) for count in counts])


def test_rois_pass_as_they_are() -> None:
    batch = rooms(2, 0, 3)
    for encoder in (PrecomputedRois(3, noise=1.0, drop=0.5).eval(), PrecomputedRois(3).train()):
        found = encoder(batch)
        assert torch.equal(found.x, batch.x)
        assert torch.equal(found.boxes, batch.boxes)
        assert torch.equal(found.ptr, batch.ptr)
        assert torch.equal(found.batch, batch.batch)


def test_noise_is_of_the_features_alone_and_leaves_the_batch() -> None:
    encoder, batch = PrecomputedRois(50, noise=0.25).train(), rooms(100, 100, width=50)
    before = batch.x.clone()
    found = encoder(batch)
    noise = found.x - batch.x
    assert float(noise.std()) == pytest.approx(0.25, rel=0.05)
    assert torch.equal(found.boxes, batch.boxes)
    assert torch.equal(batch.x, before)


def test_whole_rois_are_left_out_but_never_all() -> None:
    encoder, batch = PrecomputedRois(3, drop=0.3).train(), rooms(600, 0, *[1] * 50, 400)
    found = encoder(batch)
    sizes = found.ptr.diff().tolist()
    assert sizes[1] == 0
    assert sizes[2:-1] == [1] * 50
    assert (sizes[0] + sizes[-1]) / 1000 == pytest.approx(0.7, abs=0.05)
    rows = torch.cat([found.batch[:, None], found.x, found.boxes], 1)
    whole = torch.cat([batch.batch[:, None], batch.x, batch.boxes], 1).tolist()
    assert all(row in whole for row in rows[::29].tolist())
    assert found.batch.bincount(minlength=len(sizes)).tolist() == sizes


@pytest.mark.parametrize("use", ["all", "boxes", "features", "nothing"])
def test_blind_readers_cannot_tell_what_is_hidden(use: str) -> None:
    torch.manual_seed(0)
    encoder = PrecomputedRois(3, reader=SIZES, use=use)  # type: ignore[arg-type]
    reader = encoder.projector(5, normalise=False).eval()
    batch = rooms(2, 0, 3).to("cpu")
    other = batch.clone()
    other.x = other.x + 1
    moved = batch.clone()
    moved.boxes = moved.boxes + 1
    seen, *changed = (reader(encoder(one)) for one in (batch, other, moved))
    assert seen.shape == (3, encoder.num_tokens, 5)
    same = [torch.allclose(seen, one, atol=1e-6) for one in changed]
    assert same == [use in ("boxes", "nothing"), use in ("features", "nothing")]
    if use == "nothing":
        torch.testing.assert_close(seen[0], seen[1])


def test_the_loader_takes_arrays_of_this_width_alone() -> None:
    loader = PrecomputedRois(4).loader()
    array = np.arange(20.0).reshape(2, 10)
    found = loader(Media(array=array))
    assert found.x.tolist() == array[:, :4].tolist()
    assert found.boxes.tolist() == array[:, 4:].tolist()
    assert loader(Media(array=np.zeros((0, 10)))).num_nodes == 0
    with pytest.raises(
        ValueError,
        match=r"expected an array \(O, 10\), each row: 4 feature values, .* found one of shape \(10, 2\)",
    ):
        loader(Media(array=array.T))
