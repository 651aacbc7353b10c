"""Converts sets of voxels to sparse tensors and to dense volumes, on which PyTorch is the oracle."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from octavius.encoders.sparse.keys import pack
from octavius.encoders.sparse.tensor import SparseTensor
from octavius.encoders.sparse.voxels import Voxels

Site = tuple[int, int, int, int]
CLOUDS, LOW, SIDE = 2, -12, 24
"""Volumes reach from LOW to LOW + SIDE strides along each axis; every stride of a test divides both."""

sites = st.sets(
    st.tuples(st.integers(0, CLOUDS - 1), *[st.integers(-3, 3)] * 3), min_size=1, max_size=25
).map(sorted)
strides = st.sampled_from([1, 2, 4])


def sparse(sites: list[Site], channels: int, stride: int = 1, seed: int = 0) -> SparseTensor:
    """Random features in double precision on voxels at sites times a stride."""
    coords = torch.tensor(sites, dtype=torch.long).reshape(-1, 4) * torch.tensor([1, stride, stride, stride])
    keys = pack(coords).sort().values
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(keys), channels, generator=generator, dtype=torch.float64)
    return SparseTensor(features, Voxels(keys, stride, CLOUDS))


def volume(tensor: SparseTensor, fill: float = 0.0) -> Tensor:
    """Features as dense volumes (B, C, X, Y, Z)."""
    cloud, *axes = places(tensor.voxels)
    dense = torch.full((CLOUDS, tensor.features.shape[1], SIDE, SIDE, SIDE), fill, dtype=torch.float64)
    dense[cloud, :, *axes] = tensor.features.detach()
    return dense


def places(voxels: Voxels, low: int = LOW) -> list[Tensor]:
    """Indices of voxels in a volume of their stride that starts at `low` strides."""
    coords = voxels.coords
    assert not (coords[:, 1:] % voxels.stride).any()
    return [coords[:, 0], *(coords[:, 1:] // voxels.stride - low).unbind(1)]


def dense_weight(kernel: Tensor) -> Tensor:
    """A kernel (K^3, C_in, C_out), x fastest, as torch's convolutions have it: (C_out, C_in, K, K, K)."""
    size = round(kernel.shape[0] ** (1 / 3))
    return kernel.detach().reshape(size, size, size, *kernel.shape[1:]).permute(4, 3, 2, 1, 0)
