"""Scenes of any number of objects become a few vectors, each as a slow reading of the equations has it."""

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavius.boxes3d import edges
from octavius.encoders.rois.object_as_scene import (
    ObjectAsScene,
    ReaderSizes,
    shared_ranks,
)
from octavius.media.rois import StoredRoiLoader, rois_of
from tests.octavius.encoders.rois.small import SMALL, reader, scenes


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=5),
    st.booleans(),
    st.integers(1, 2),
    st.sampled_from([0.0, 2.0]),
)
def test_a_batch_is_its_scenes_one_by_one(
    counts: list[int], normalise: bool, layers: int, order: float
) -> None:
    module, batch = reader(normalise=normalise, layers=layers, order=order), scenes(counts)
    together = module(batch)
    assert together.shape == (len(counts), 3, 9)
    alone = [module(StoredRoiLoader().collate([item])) for item in batch.to_data_list()]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [0.0, 2.0])
def test_the_order_of_objects_does_not_matter(order: float) -> None:
    module, batch = reader(order=order), scenes([5])
    turned = StoredRoiLoader().collate([rois_of(batch.x.flip(0), batch.boxes.flip(0))])
    torch.testing.assert_close(module(turned), module(batch), rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 8))
def test_neighbours_share_places_where_objects_are_too_many(counts: list[int], places: int) -> None:
    batch = scenes(counts, seed=sum(counts))
    found = shared_ranks(batch.boxes, batch.batch, places)
    for number, count in enumerate(counts):
        mine = batch.batch == number
        left_to_right = sorted(zip(batch.boxes[mine, 0].tolist(), found[mine].tolist(), strict=True))
        expected = [place if count <= places else place * places // count for place in range(count)]
        assert [place for _, place in left_to_right] == expected


def test_in_order_each_query_looks_at_its_object() -> None:
    module, batch = ObjectAsScene(7, 9, **SMALL, order=30.0).eval(), scenes([3, 2])  # type: ignore[arg-type]
    seen: list[Tensor] = []
    module.layers[0].cross.out.register_forward_hook(lambda *call: seen.append(call[1][0].detach()))
    module(batch)
    cross, objects = module.layers[0].cross, module.enter(batch.x) + module.place(edges(batch.boxes))
    for number, count in enumerate([3, 2]):
        mine = objects[batch.batch == number][batch.boxes[batch.batch == number, 0].argsort()]
        torch.testing.assert_close(seen[0][number, :count], cross.value(mine), rtol=1e-4, atol=1e-5)


def test_a_negative_order_is_told() -> None:
    with pytest.raises(ValueError, match="bias of at least 0, found order -1"):
        reader(order=-1)


def test_an_empty_scene_reads_the_learned_object_alone() -> None:
    module = reader(width_in=12)
    found = module(scenes([0], width=12))
    one = rois_of(module.nothing.detach()[None], torch.zeros(1, 6))
    with torch.no_grad():
        module.place[2].weight.zero_(), module.place[2].bias.zero_()  # its place is part of what is learned
    torch.testing.assert_close(found, module(StoredRoiLoader().collate([one])))
    before = module(scenes([0, 2], width=12))
    with torch.no_grad():
        module.nothing.add_(1)
    after = module(scenes([0, 2], width=12))
    assert not torch.allclose(after[0], before[0])
    assert torch.equal(after[1], before[1])


@pytest.mark.parametrize("counts", [[0], [0, 0], [3], [0, 2, 0]])
def test_every_tensor_has_a_finite_gradient_in_each_batch(counts: list[int]) -> None:
    module = reader(order=1.0).train()
    module(scenes(counts)).square().sum().backward()
    for name, tensor in module.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
    assert bool(module.nothing.grad.abs().sum() > 0) == (0 in counts)  # type: ignore[union-attr]
    assert bool(module.place[0].weight.grad.abs().sum() > 0) == any(counts)


def test_places_are_told_apart_to_the_millimetre_in_half_precision() -> None:
    module, batch = reader(), scenes([1])
    placed: list[Tensor] = []
    module.place.register_forward_hook(lambda *call: placed.append(call[2].detach()))
    with torch.autocast("cpu", torch.bfloat16):
        for x in (3.000, 3.001):
            batch.boxes = torch.tensor([[x, 2.0, 0.5, 1.0, 1.0, 1.0]])
            module(batch)
    assert float((placed[0] - placed[1]).abs().max()) > 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        near, far = (module.place(torch.tensor([[x - 0.5, 1.5, 0, x + 0.5, 2.5, 1.0]])) for x in (3.0, 3.001))
    assert torch.equal(near, far)  # what it would be otherwise


def test_the_start_is_the_published_one() -> None:
    torch.manual_seed(0)
    module = ObjectAsScene(768, 320, **asdict(ReaderSizes()))
    shapes = {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}
    assert not any(name.startswith("enter") for name in shapes)
    assert (shapes["queries"], shapes["place.0.weight"], shapes["place.2.weight"]) == (
        (16, 768),
        (256, 6),
        (768, 256),
    )
    bound = math.sqrt(6 / (768 + 768))
    for name, tensor in module.layers.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any()
        elif "norm" not in name:
            assert float(tensor.detach().abs().max()) == pytest.approx(bound, rel=0.01)
            assert float(tensor.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    vectors = module.eval()(scenes([0, 3], width=768)).detach()
    assert float(vectors.std()) == pytest.approx(1, abs=0.01)
    quiet = ObjectAsScene(768, 320, scale=0.02)
    assert float(quiet.eval()(scenes([0, 3], width=768)).detach().std()) == pytest.approx(0.02, abs=0.001)


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match="found width 12, 3 queries, 5 heads, 1 layers"):
        reader(heads=5)
    with pytest.raises(ValueError, match="expected features of 7 numbers for each object, found 8"):
        reader()(scenes([1], width=8))
