"""Sparse layers have MinkowskiEngine's names and shapes, and compute what dense layers do."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional as F

from octavius.encoders.sparse.interpolation import trilinear
from octavius.encoders.sparse.layers import (
    GenerativeConvTranspose,
    SparseActivation,
    SparseBatchNorm,
    SparseConv,
    SparseInstanceNorm,
    SparseMaxPool,
)
from octavius.encoders.sparse.tensor import SparseTensor, add, prune, topk_mask, voxelise
from tests.octavius.encoders.sparse.dense import LOW, Site, dense_weight, places, sites, sparse, volume

CUBE = [(b, x, y, z) for b in (0, 1) for x in (0, 1, 2) for y in (0, 1) for z in (0, 1)]


class Net(nn.Module):
    """All layers in the order in which a detector has them: two levels up, one down again, joined and pruned."""

    def __init__(self, kernel_size: int = 2) -> None:
        super().__init__()
        relu = SparseActivation(F.relu)
        self.stem = nn.Sequential(SparseConv(3, 8, 3, 2), SparseInstanceNorm(8), relu, SparseMaxPool(2, 2))
        self.layer = nn.Sequential(SparseConv(8, 8, 3), SparseBatchNorm(8), relu)
        self.down = nn.Sequential(SparseConv(8, 16, 1, 2), SparseBatchNorm(16), relu)
        self.up = nn.Sequential(
            GenerativeConvTranspose(16, 8, kernel_size), SparseBatchNorm(8), SparseActivation(F.elu)
        )
        self.score = SparseConv(16, 1, 1, bias=True)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        fine = self.layer(self.stem(tensor))
        coarse = self.down(fine)
        joined = add(self.up(coarse), fine)
        coords = joined.voxels.coords
        scores = trilinear(self.score(coarse), coords[:, 1:], coords[:, 0])
        return prune(joined, topk_mask(scores[:, 0], joined.voxels, 40))


def test_parameters_are_named_and_shaped_as_those_of_minkowski_engine() -> None:
    layers = nn.ModuleDict(
        {
            "conv": SparseConv(3, 64, 3, 2),
            "down": SparseConv(64, 128, 1, 2),
            "one": SparseConv(128, 18, 1, bias=True),
            "up": GenerativeConvTranspose(128, 64, 2),
            "norm": SparseBatchNorm(64),
            "stem": SparseInstanceNorm(64),
        }
    )
    assert {name: tuple(value.shape) for name, value in layers.state_dict().items()} == {
        "conv.kernel": (27, 3, 64),
        "down.kernel": (1, 64, 128),
        "one.kernel": (128, 18),
        "one.bias": (1, 18),
        "up.kernel": (8, 128, 64),
        "norm.bn.weight": (64,),
        "norm.bn.bias": (64,),
        "norm.bn.running_mean": (64,),
        "norm.bn.running_var": (64,),
        "norm.bn.num_batches_tracked": (),
        "stem.weight": (1, 64),
        "stem.bias": (1, 64),
    }


@given(sites)
@settings(max_examples=15)
def test_a_layer_equals_its_dense_twin(rows: list[Site]) -> None:
    torch.manual_seed(0)
    tensor = sparse(rows, 2)
    conv = SparseConv(2, 3, 3, 2, bias=True).double()
    pool, up = SparseMaxPool(2, 2), GenerativeConvTranspose(3, 2, 2, bias=True).double()
    assert conv.bias is not None
    assert up.bias is not None
    dense = F.conv3d(volume(tensor), dense_weight(conv.kernel), conv.bias[0], stride=2, padding=1)
    found = conv(tensor)
    cloud, *axes = places(found.voxels, LOW // 2)
    assert torch.allclose(found.features, dense[cloud, :, *axes])
    assert found.voxels is tensor.voxels.coarser(2)
    dense = F.max_pool3d(volume(found, fill=-math.inf), 2, 2)
    pooled = pool(found)
    cloud, *axes = places(pooled.voxels, LOW // 2)
    assert torch.equal(pooled.features, dense[cloud, :, *axes])
    weight = dense_weight(up.kernel).transpose(0, 1)
    dense = F.conv_transpose3d(volume(pooled), weight, up.bias[0], stride=2)
    finer = up(pooled)
    cloud, *axes = places(finer.voxels, LOW * 2)
    assert torch.allclose(finer.features, dense[cloud, :, *axes])
    assert finer.voxels.stride == found.voxels.stride


def test_one_by_one_is_a_linear_map_on_the_same_voxels() -> None:
    tensor, layer = sparse(CUBE, 4), SparseConv(4, 3, 1, bias=True).double()
    assert layer.bias is not None
    found = layer(tensor)
    assert found.voxels is tensor.voxels
    assert torch.allclose(found.features, F.linear(tensor.features, layer.kernel.T, layer.bias[0]))


def test_batch_normalisation_runs_over_all_voxels() -> None:
    tensor = sparse(CUBE, 4)
    ours, theirs = SparseBatchNorm(4).double(), nn.BatchNorm1d(4).double()
    assert torch.equal(ours(tensor).features, theirs(tensor.features))
    assert torch.equal(ours.bn.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    assert torch.equal(ours(tensor).features, theirs(tensor.features))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_voxels_for_a_variance_are_normalised_with_what_is_known(count: int) -> None:
    layer = SparseBatchNorm(2).double().train()
    layer(sparse(CUBE, 2))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    few = prune(sparse(CUBE, 2, seed=1), torch.arange(len(CUBE)) < count)
    found = layer(few).features
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert torch.equal(found, layer.eval()(few).features)


def test_instance_normalisation_runs_over_each_cloud_alone() -> None:
    tensor = sparse([*CUBE, (0, 3, 3, 3)], 4)
    layer = SparseInstanceNorm(4).double()
    nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    found = layer(tensor).features
    for cloud in (0, 1):
        mine = tensor.voxels.batch == cloud
        expected = F.instance_norm(
            tensor.features[mine].T[None], weight=layer.weight[0], bias=layer.bias[0], eps=1e-8
        )[0].T
        assert torch.allclose(found[mine], expected)


def test_instance_normalisation_of_one_voxel_or_none_is_finite() -> None:
    tensor = sparse([(1, 0, 0, 0)], 2)
    found = SparseInstanceNorm(2).double()(tensor.with_features(tensor.features.requires_grad_()))
    found.features.sum().backward()
    assert torch.equal(found.features, torch.zeros(1, 2, dtype=torch.float64))
    assert tensor.features.grad is not None
    assert tensor.features.grad.isfinite().all()


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_a_net_of_all_layers_learns_through_every_parameter(kernel_size: int) -> None:
    torch.manual_seed(0)
    net = Net(kernel_size).train()
    points = torch.rand(600, 3) * 3
    found = net(voxelise(points, torch.rand(600, 3), 0.05, torch.arange(2).repeat_interleave(300)))
    assert found.voxels.stride == 4
    assert found.voxels.counts == [40, 40]
    found.features.square().sum().backward()
    idle = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == ["score.kernel", "score.bias"]  # they choose voxels, which has no gradient


def test_a_net_is_blind_to_the_order_of_points_and_to_other_clouds() -> None:
    torch.manual_seed(0)
    net = Net().double().eval()
    cells = torch.randperm(12**3)[:400]
    corners = torch.stack([cells % 12, cells // 12 % 12, cells // 144], dim=1)  # no two in one voxel
    points, features = corners + 0.5, torch.rand(400, 3).double()
    batch = torch.arange(2).repeat_interleave(200)
    whole = net(voxelise(points, features, 1.0, batch))
    order = torch.cat([torch.randperm(200), 200 + torch.randperm(200)])
    mixed = net(voxelise(points[order], features[order], 1.0, batch))
    assert torch.equal(whole.features, mixed.features)
    assert torch.equal(whole.voxels.keys, mixed.voxels.keys)
    alone = net(voxelise(points[200:], features[200:], 1.0))
    mine = whole.voxels.batch == 1
    assert torch.equal(whole.voxels.coords[mine, 1:], alone.voxels.coords[:, 1:])
    assert torch.allclose(whole.features[mine], alone.features)


def test_a_move_by_the_coarsest_stride_moves_the_result() -> None:
    torch.manual_seed(0)
    net = Net().double().eval()
    points, features = torch.rand(300, 3).double() * 10, torch.rand(300, 3).double()
    here = net(voxelise(points, features, 1.0))
    there = net(voxelise(points + torch.tensor([8.0, -16.0, 80.0]), features, 1.0))
    assert torch.equal(here.voxels.coords + torch.tensor([0, 8, -16, 80]), there.voxels.coords)
    assert torch.allclose(here.features, there.features)


def test_autocast_leaves_a_net_near_its_full_precision() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    tensor = voxelise(torch.rand(300, 3) * 3, torch.rand(300, 3), 0.1)
    full = net.layer(net.stem(tensor))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net.layer(net.stem(tensor))
        net(tensor)  # unions and interpolation of two types pass
    difference: Tensor = (full.features - mixed.features).abs()
    assert difference.mean() < 0.02 * full.features.abs().mean()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(SparseConv, 2, 3, 3), "SparseConv was made for 2 channels, found 4"),
        (partial(GenerativeConvTranspose, 2, 3, 2), "GenerativeConvTranspose was made for 2"),
        (partial(SparseInstanceNorm, 2), "SparseInstanceNorm was made for 2 channels, found 4"),
        (partial(GenerativeConvTranspose, 4, 3, 2), "voxels of stride 1 cannot be made finer"),
    ],
)
def test_what_does_not_fit_a_layer_is_told(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()(sparse(CUBE, 4).with_features(torch.zeros(len(CUBE), 4)))


def test_a_pool_that_leaves_voxels_out_is_refused() -> None:
    with pytest.raises(ValueError, match="an even kernel of at least 4, or an odd one of at least 7"):
        SparseMaxPool(3, 4)
    assert repr(SparseMaxPool(2, 2)) == "SparseMaxPool(kernel_size=2, stride=2)"
    assert "2, 3, kernel_size=3, stride=2" in repr(SparseConv(2, 3, 3, 2))
    assert "2, 3, kernel_size=2, stride=2" in repr(GenerativeConvTranspose(2, 3, 2))
