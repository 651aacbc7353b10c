"""Interpolation of voxel features at arbitrary positions."""

import torch
from torch import Tensor

from octavius.encoders.sparse.keys import check_range, find, kernel_shifts, pack
from octavius.encoders.sparse.tensor import SparseTensor


def trilinear(tensor: SparseTensor, positions: Tensor, batch: Tensor) -> Tensor:
    """Interpolates trilinearly between the corners of the grid cell that contains a position.

    As in MinkowskiEngine's `features_at_coordinates`, a corner without a voxel counts as 0, and the weights
    of the others are not renormalized.

    Args:
        tensor: features (N, C) at the lower corners of their voxels.
        positions: (M, 3) x, y, z in units of the finest voxels.
        batch: (M,) cloud of each position.

    Returns:
        (M, C) features.
    """
    stride, dtype = tensor.voxels.stride, tensor.features.dtype
    scaled, below = _cells(tensor, positions, batch)
    share = scaled - below[:, 1:] / stride  # (M, 3), in 0..1
    keys = pack(below)
    total = tensor.features.new_zeros(len(positions), tensor.features.shape[1])
    for corner, shift in enumerate(kernel_shifts(2, stride, keys.device)):
        upper = [corner >> axis & 1 for axis in range(3)]  # x is the lowest bit: the order of the shifts
        sides = [share[:, axis] if upper[axis] else 1 - share[:, axis] for axis in range(3)]
        weight = sides[0] * sides[1] * sides[2]
        total = total + weight.to(dtype)[:, None] * _at(tensor, keys + shift)
    return total


def _cells(tensor: SparseTensor, positions: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Positions in units of the stride (M, 3), and cloud and lower corner of their cells (M, 4)."""
    if positions.dim() != 2 or positions.shape[1] != 3 or batch.shape != (len(positions),):
        raise ValueError(
            f"expected positions (M, 3) and a batch vector (M,), found {tuple(positions.shape)} and "
            f"{tuple(batch.shape)}"
        )
    check_range(positions)
    if len(batch) and not 0 <= int(batch.min()) <= int(batch.max()) < tensor.voxels.batch_size:
        raise ValueError(
            f"expected positions in clouds 0 to {tensor.voxels.batch_size - 1}, found some in clouds "
            f"{int(batch.min())} to {int(batch.max())}"
        )
    exact = torch.promote_types(positions.dtype, torch.float32)
    scaled = positions.to(exact) / tensor.voxels.stride
    corners = scaled.floor().long() * tensor.voxels.stride
    return scaled, torch.cat([batch[:, None], corners], dim=1)


def _at(tensor: SparseTensor, keys: Tensor) -> Tensor:
    """The features of voxels by key; 0 if there is none."""
    indices = find(tensor.voxels.keys, keys)
    if not len(tensor):
        return tensor.features.new_zeros(len(keys), tensor.features.shape[1])
    return tensor.features.index_select(0, indices.clamp(min=0)) * (indices >= 0)[:, None]
