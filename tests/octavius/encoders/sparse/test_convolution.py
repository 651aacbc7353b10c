"""Sparse convolution and pooling equal the dense operations of PyTorch and those of torch-geometric."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn import RGCNConv

from octavius.encoders.sparse.convolution import convolve, largest
from octavius.encoders.sparse.keys import kernel_offsets
from octavius.encoders.sparse.tensor import SparseTensor
from octavius.encoders.sparse.voxels import KernelMap, Voxels
from tests.octavius.encoders.sparse.dense import (
    LOW,
    Site,
    dense_weight,
    places,
    sites,
    sparse,
    strides,
    volume,
)

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]
SIZES = [(1, 1), (2, 1), (3, 1), (5, 1), (1, 2), (2, 2), (3, 2), (3, 3)]
CUBE = [(b, x, y, z) for b in (0, 1) for x in (0, 1, 2) for y in (0, 1) for z in (0, 1)]


def random_kernel(kernel_size: int, width_in: int = 2, width_out: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(kernel_size)
    return torch.randn(kernel_size**3, width_in, width_out, generator=generator, dtype=torch.float64)


@given(sites, strides, st.sampled_from(SIZES))
@settings(max_examples=40)
def test_convolution_equals_that_of_dense_volumes(
    rows: list[Site], stride: int, sizes: tuple[int, int]
) -> None:
    kernel_size, factor = sizes
    tensor, kernel = sparse(rows, 2, stride), random_kernel(sizes[0])
    found = convolve(tensor.features, kernel, tensor.voxels.kernel_map(kernel_size, factor))
    before = kernel_size // 2 if kernel_size % 2 else 0
    padded = F.pad(volume(tensor), [before, kernel_size - 1 - before] * 3)
    dense = F.conv3d(padded, dense_weight(kernel), stride=factor)
    cloud, *axes = places(tensor.voxels.coarser(factor), LOW // factor)
    assert torch.allclose(found, dense[cloud, :, *axes], atol=1e-12)


@given(sites, st.sampled_from([(2, 2), (3, 2), (1, 2), (4, 2), (2, 1)]))
@settings(max_examples=25)
def test_generative_convolution_equals_a_transposed_one_of_dense_volumes(
    rows: list[Site], sizes: tuple[int, int]
) -> None:
    kernel_size, factor = sizes
    tensor, kernel = sparse(rows, 2, 2), random_kernel(kernel_size)
    fine, pairs = tensor.voxels.finer(kernel_size, factor)
    found = convolve(tensor.features, kernel, pairs)
    # Only the channels change places, between the weights of torch's two convolutions.
    weight = dense_weight(kernel).transpose(0, 1)
    dense = F.conv_transpose3d(volume(tensor), weight, stride=factor)
    first = kernel_size // 2 if kernel_size % 2 else 0
    cloud, *axes = places(fine, LOW * factor - first)
    assert torch.allclose(found, dense[cloud, :, *axes], atol=1e-12)
    rest = dense.clone()
    rest[cloud, :, *axes] = 0
    assert not rest.any()  # a voxel was made wherever the dense result is not zero


@given(sites, st.sampled_from([(3, 1), (3, 2), (2, 2)]))
@settings(max_examples=15)
def test_convolution_is_a_relational_graph_convolution(rows: list[Site], sizes: tuple[int, int]) -> None:
    """One relation for each offset, with edges found by a loop; the weights are laid out alike."""
    tensor, kernel = sparse(rows, 2), random_kernel(sizes[0])
    sources = {tuple(row): i for i, row in enumerate(tensor.voxels.coords.tolist())}
    edges = [
        (sources[key], target, k)
        for target, (b, *u) in enumerate(tensor.voxels.coarser(sizes[1]).coords.tolist())
        for k, offset in enumerate(kernel_offsets(sizes[0], 1))
        if (key := (b, *(c + o for c, o in zip(u, offset, strict=True)))) in sources
    ]
    reference = RGCNConv(2, 3, len(kernel), aggr="add", root_weight=False, bias=False).double()
    reference.weight.data.copy_(kernel)
    source, target, relation = torch.tensor(edges, dtype=torch.long).reshape(-1, 3).T
    count = len(tensor.voxels.coarser(sizes[1]))
    expected = reference(
        (tensor.features, torch.zeros(count, 2).double()), torch.stack([source, target]), relation
    )
    found = convolve(tensor.features, kernel, tensor.voxels.kernel_map(*sizes))
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("sizes", [(3, 1), (3, 2), (1, 2), (2, 2)])
def test_gradients_of_convolution(sizes: tuple[int, int]) -> None:
    tensor, kernel = sparse(CUBE[::2], 2), random_kernel(sizes[0], 2, 2)
    pairs = tensor.voxels.kernel_map(*sizes)
    inputs = tensor.features.requires_grad_(), kernel.requires_grad_()
    assert torch.autograd.gradcheck(lambda features, weight: convolve(features, weight, pairs), inputs)


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_gradients_of_generative_convolution(kernel_size: int) -> None:
    tensor, kernel = sparse(CUBE[::5], 2, 2), random_kernel(kernel_size, 2, 1)
    _, pairs = tensor.voxels.finer(kernel_size, 2)
    inputs = tensor.features.requires_grad_(), kernel.requires_grad_()
    assert torch.autograd.gradcheck(lambda features, weight: convolve(features, weight, pairs), inputs)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_the_gradients_asked_for_are_made(wanted: tuple[bool, bool]) -> None:
    tensor, kernel = sparse(CUBE, 2), random_kernel(3)
    pairs = tensor.voxels.kernel_map(3)
    inputs = [tensor.features, kernel]
    convolve(*(part.clone().requires_grad_() for part in inputs), pairs).sum().backward()
    for part, asked in zip(inputs, wanted, strict=True):
        part.requires_grad_(asked)
    convolve(tensor.features, kernel, pairs).sum().backward()
    assert [part.grad is not None for part in inputs] == list(wanted)


@given(sites, st.sampled_from([(2, 2), (3, 2), (4, 4), (3, 1), (1, 1)]))
@settings(max_examples=25)
def test_pooling_equals_that_of_dense_volumes(rows: list[Site], sizes: tuple[int, int]) -> None:
    kernel_size, factor = sizes
    tensor = sparse(rows, 2)
    found = largest(tensor.features, tensor.voxels.kernel_map(kernel_size, factor))
    before = kernel_size // 2 if kernel_size % 2 else 0
    padded = F.pad(volume(tensor, fill=-torch.inf), [before, kernel_size - 1 - before] * 3, value=-torch.inf)
    dense = F.max_pool3d(padded, kernel_size, factor)
    cloud, *axes = places(tensor.voxels.coarser(factor), LOW // factor)
    assert torch.equal(found, dense[cloud, :, *axes])


def test_gradients_of_pooling() -> None:
    tensor = sparse(CUBE, 2)
    pairs = tensor.voxels.kernel_map(2, 2)
    assert torch.autograd.gradcheck(
        lambda features: largest(features, pairs), [tensor.features.requires_grad_()]
    )


def test_a_target_without_a_source_is_zero() -> None:
    tensor = sparse([(0, 1, 0, 0)], 2)  # not at the corner of its coarser voxel
    found = convolve(tensor.features, random_kernel(1), tensor.voxels.kernel_map(1, 2))
    assert found.tolist() == [[0.0, 0.0, 0.0]]


def test_single_precision_stays_near_double() -> None:
    tensor, kernel = sparse(CUBE, 16), random_kernel(3, 16, 8)
    pairs = tensor.voxels.kernel_map(3)
    exact = convolve(tensor.features, kernel, pairs)
    single = convolve(tensor.features.float(), kernel.float(), pairs)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact, rtol=1e-4, atol=1e-4)


def test_autocast_multiplies_in_half_and_gives_full_gradients() -> None:
    tensor, kernel = sparse(CUBE, 16), random_kernel(3, 16, 8)
    pairs = tensor.voxels.kernel_map(3)
    exact = convolve(tensor.features, kernel, pairs)
    features, weight = tensor.features.float().requires_grad_(), kernel.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = convolve(features, weight, pairs)
    mixed.float().sum().backward()
    assert mixed.dtype == torch.bfloat16
    assert (mixed - exact).abs().max() < 0.03 * exact.abs().max()
    assert features.grad is not None
    assert weight.grad is not None
    assert features.grad.dtype == weight.grad.dtype == torch.float32
    reference = [tensor.features.requires_grad_(), kernel.requires_grad_()]
    for found, true in zip(
        (features.grad, weight.grad),
        torch.autograd.grad(convolve(*reference, pairs).sum(), reference),
        strict=True,
    ):
        assert (found - true).abs().max() < 0.03 * true.abs().max()


@pytest.mark.parametrize("device", DEVICES)
def test_devices_agree_and_repeat_themselves(device: str) -> None:
    here = sparse(CUBE, 8)
    voxels = Voxels(here.voxels.keys.to(device), 1, 2)
    kernel = random_kernel(3, 8, 8)
    for there, pairs in [
        (voxels.kernel_map(3), here.voxels.kernel_map(3)),
        (voxels.coarser(2).finer(3, 2)[1], here.voxels.coarser(2).finer(3, 2)[1]),
    ]:
        rows = here.features[: int(pairs.sources.max()) + 1]
        first, second = (convolve(rows.to(device), kernel.to(device), there) for _ in range(2))
        assert first.device.type == device
        assert torch.equal(first, second)
        assert torch.allclose(first.cpu(), convolve(rows, kernel, pairs), atol=1e-12)


def test_a_map_without_pairs_gives_zeros() -> None:
    none = torch.zeros(0, dtype=torch.long)
    features = torch.randn(2, 3, requires_grad=True)
    kernel = torch.randn(8, 3, 4, requires_grad=True)
    found = convolve(features, kernel, KernelMap(none, none, (0,) * 8, 5))
    found.sum().backward()
    assert torch.equal(found, torch.zeros(5, 4))
    assert features.grad is not None
    assert not features.grad.any()


@given(sites)
@settings(max_examples=15)
def test_a_cloud_alone_is_treated_as_in_a_batch(rows: list[Site]) -> None:
    together, kernel = sparse(rows, 2), random_kernel(3)
    whole = convolve(together.features, kernel, together.voxels.kernel_map(3))
    for cloud in (0, 1):
        mine = together.voxels.batch == cloud
        part = SparseTensor(together.features[mine], Voxels(together.voxels.keys[mine], 1, 2))
        assert torch.allclose(convolve(part.features, kernel, part.voxels.kernel_map(3)), whole[mine])
