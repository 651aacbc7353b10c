"""Sparse tensors against an oracle made of dictionaries: voxelisation, unions, pruning, and their gradients."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import to_dense_batch

from octavius.encoders.sparse.keys import LIMIT
from octavius.encoders.sparse.tensor import SparseTensor, add, prune, topk_mask, voxelise
from octavius.encoders.sparse.voxels import Voxels
from tests.octavius.encoders.sparse.dense import Site, sites, sparse

quarters = st.tuples(*[st.integers(-9, 9).map(lambda quarter: quarter / 4)] * 3)
clouds = st.lists(st.lists(quarters, min_size=1, max_size=12), min_size=1, max_size=3)


def rows_of(tensor: SparseTensor) -> dict[Site, list[float]]:
    """Features by coordinates."""
    return dict(zip(map(tuple, tensor.voxels.coords.tolist()), tensor.features.tolist(), strict=True))


@given(clouds, st.sampled_from([0.25, 0.5, 1.5]))
@settings(max_examples=40)
def test_the_first_point_of_each_voxel_is_kept(parts: list[list[tuple[float, ...]]], size: float) -> None:
    points = torch.tensor([point for part in parts for point in part])
    batch = torch.tensor([b for b, part in enumerate(parts) for _ in part])
    features = torch.arange(len(points) * 2.0).reshape(-1, 2)
    expected: dict[tuple[int, ...], list[float]] = {}
    for b, point, feature in zip(batch.tolist(), points.tolist(), features.tolist(), strict=True):
        expected.setdefault((b, *(math.floor(value / size) for value in point)), feature)
    tensor = voxelise(points, features, size, batch)
    assert rows_of(tensor) == expected
    assert list(rows_of(tensor)) == sorted(expected)
    assert (tensor.voxels.stride, tensor.voxels.batch_size) == (1, len(parts))


def test_a_batch_of_torch_geometric_is_taken_and_its_voxels_can_be_padded() -> None:
    data = [Data(pos=torch.rand(size, 3), x=torch.rand(size, 3)) for size in (30, 50)]
    cloud = Batch.from_data_list(data)
    tensor = voxelise(cloud.pos, cloud.x, 0.25, cloud.batch, cloud.num_graphs)
    padded, real = to_dense_batch(tensor.features, tensor.voxels.batch)
    alone = [voxelise(part.pos, part.x, 0.25) for part in data]
    assert real.sum(1).tolist() == tensor.voxels.counts == [len(part) for part in alone]
    assert torch.equal(padded[real], torch.cat([part.features for part in alone]))


def test_gradients_reach_the_features_that_are_kept() -> None:
    features = torch.ones(3, 1, requires_grad=True)
    voxelise(torch.tensor([[0.1] * 3, [0.2] * 3, [1.1] * 3]), features, 1.0).features.sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [1, 0, 1]


@given(sites, sites)
@settings(max_examples=40)
def test_a_union_sums_where_both_are(first: list[Site], second: list[Site]) -> None:
    one, two = sparse(first, 2, 2), sparse(second, 2, 2, seed=1)
    left, right = rows_of(one), rows_of(two)
    total = add(one, two)
    assert list(rows_of(total)) == sorted(left.keys() | right.keys())
    for site, row in rows_of(total).items():
        parts = zip(left.get(site, [0.0, 0.0]), right.get(site, [0.0, 0.0]), strict=True)
        assert row == [a + b for a, b in parts]
    assert total.voxels.stride == 2
    if set(second) <= set(first):
        assert total.voxels is one.voxels
    elif set(first) <= set(second):
        assert total.voxels is two.voxels


def test_a_union_with_a_part_keeps_the_voxels_and_their_neighbours() -> None:
    whole, part = sparse([(0, 0, 0, 0), (0, 1, 0, 0)], 1), sparse([(0, 1, 0, 0)], 1)
    assert add(whole, part).voxels is whole.voxels
    assert add(part, whole).voxels is whole.voxels
    assert torch.equal(add(whole, whole).features, 2 * whole.features)


def test_gradients_of_a_union_and_of_pruning() -> None:
    one, two = sparse([(0, 0, 0, 0), (0, 1, 0, 0)], 2), sparse([(0, 1, 0, 0), (1, 0, 0, 0)], 2, seed=1)
    keep = torch.tensor([False, True, True])

    def kept(a: Tensor, b: Tensor) -> Tensor:
        return prune(add(one.with_features(a), two.with_features(b)), keep).features

    assert torch.autograd.gradcheck(kept, [part.features.requires_grad_() for part in (one, two)])


@given(sites, st.data())
@settings(max_examples=40)
def test_pruning_keeps_what_the_mask_keeps(rows: list[Site], data: st.DataObject) -> None:
    tensor = sparse(rows, 2)
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    pruned = prune(tensor, torch.tensor(keep))
    kept = zip(rows_of(tensor).items(), keep, strict=True)
    assert rows_of(pruned) == dict(item for item, stays in kept if stays)
    assert (pruned is tensor) == all(keep)


@given(sites, st.integers(1, 6), st.data())
@settings(max_examples=40)
def test_the_highest_of_each_cloud_are_those_of_a_sorted_list(
    rows: list[Site], count: int, data: st.DataObject
) -> None:
    voxels = sparse(rows, 1).voxels
    scores = data.draw(st.lists(st.integers(-2, 2), min_size=len(rows), max_size=len(rows)))
    expected = set()
    for cloud in (0, 1):
        own = [i for i, row in enumerate(rows) if row[0] == cloud]
        expected |= set(sorted(own, key=lambda i: (-scores[i], i))[:count])
    keep = topk_mask(torch.tensor(scores, dtype=torch.float), voxels, count)
    assert keep.nonzero().flatten().tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, f: voxelise(p[:0], f[:0], 1.0), "cloud 0 of 1 has no points"),
        (lambda p, f: voxelise(p, f, 1.0, torch.zeros(4, dtype=torch.long), 2), "cloud 1 of 2 has no points"),
        (lambda p, f: voxelise(p, f, 1.0, torch.ones(4, dtype=torch.long), 1), "expected 1 clouds, found"),
        (lambda p, f: voxelise(p.log() * 0, f, 1.0), "are NaN or infinite"),
        (lambda p, f: voxelise(p, f * math.nan, 1.0), "some features of the points are NaN"),
        (lambda p, f: voxelise(p[:, :2], f, 1.0), r"expected positions \(P, 3\), found \(4, 2\)"),
        (lambda p, f: voxelise(p, f[:3], 1.0), r"expected float features \(4, C\) for 4 points"),
        (lambda p, f: voxelise(p, f.byte(), 1.0), "found torch.uint8"),
        (lambda p, f: voxelise(p, f, 0.0), "a positive and finite voxel size, found 0.0"),
        (lambda p, f: voxelise(p, f, 1e-7), f"within {LIMIT} voxels of the origin"),
    ],
)
def test_what_cannot_be_put_on_voxels_is_told(
    call: Callable[[Tensor, Tensor], SparseTensor], words: str
) -> None:
    points = torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match=words):
        call(points, torch.ones(4, 3))


def test_tensors_of_different_grids_are_not_joined() -> None:
    tensor = sparse([(0, 0, 0, 0)], 2)
    with pytest.raises(ValueError, match="found strides 1 and 2"):
        add(tensor, sparse([(0, 0, 0, 0)], 2, stride=2))
    with pytest.raises(ValueError, match="equally many channels, found 2 and 3"):
        add(tensor, sparse([(0, 0, 0, 0)], 3))
    with pytest.raises(
        ValueError, match=r"expected features of shape \(1, C\), one row per voxel, found \(2, 2\)"
    ):
        tensor.with_features(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"a boolean mask of shape \(1,\)"):
        prune(tensor, torch.ones(1))
    with pytest.raises(ValueError, match=r"expected 1 scores, one per voxel, found shape \(2,\)"):
        topk_mask(torch.zeros(2), tensor.voxels, 1)
    with pytest.raises(ValueError, match="at least 1 voxel"):
        topk_mask(torch.zeros(1), tensor.voxels, 0)


def test_nothing_left_is_a_tensor_still() -> None:
    empty = prune(sparse([(0, 0, 0, 0)], 2), torch.tensor([False]))
    assert len(empty) == 0
    assert isinstance(empty.voxels, Voxels)
    assert empty.voxels.counts == [0, 0]
    assert empty.voxels.kernel_map(3).sources.tolist() == []
