"""Sparse tensors: features on occupied voxels, and functions that create, add and prune them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from octavius.encoders.clouds import cloud_sizes
from octavius.encoders.sparse.keys import check_range, first_of_each, pack
from octavius.encoders.sparse.voxels import Voxels


@dataclass(frozen=True)
class SparseTensor:
    """Features on the occupied voxels of a batch of clouds.

    Attributes:
        features: (N, C) a row per voxel.
        voxels: the N voxels.
    """

    features: Tensor
    voxels: Voxels

    def __post_init__(self) -> None:
        shape = tuple(self.features.shape)
        if len(shape) != 2 or shape[0] != len(self.voxels):
            raise ValueError(f"expected features ({len(self.voxels)}, C) for as many voxels, found {shape}")

    def __len__(self) -> int:
        return len(self.voxels)

    def with_features(self, features: Tensor) -> "SparseTensor":
        """Other features on the same voxels."""
        return SparseTensor(features, self.voxels)


def voxelise(
    points: Tensor,
    features: Tensor,
    size: float,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> SparseTensor:
    """Assigns the features of points to the voxels that contain them, at stride 1.

    A voxel is floor(position / size); its lower corner is at coords * size. Of several points in one voxel
    the first is taken, so shuffled points give a random choice, as in MinkowskiEngine.

    Args:
        points: (P, 3) positions, finite.
        features: (P, C) features, such as colours; finite.
        size: edge of a voxel, in the unit of the points.
        batch: (P,) cloud of each point, ascending; None for a single cloud.
        batch_size: number of clouds; by default taken from the batch vector. If given, empty clouds at the
            end are detected.

    Raises:
        ValueError: the tensors are malformed, a cloud is empty, or points are too far away for the voxel
            size.
    """
    clouds = len(cloud_sizes(points, batch, batch_size))
    if points.shape[1] != 3:
        raise ValueError(f"expected positions (P, 3), found {tuple(points.shape)}")
    if features.dim() != 2 or len(features) != len(points) or not features.is_floating_point():
        raise ValueError(
            f"expected float features ({len(points)}, C) for {len(points)} points, found {features.dtype} of "
            f"shape {tuple(features.shape)}"
        )
    if not bool(features.isfinite().all()):
        raise ValueError("some features of the points are NaN or infinite; drop them when the file is read")
    if not 0 < size < math.inf:
        raise ValueError(f"expected a voxel size above 0, found {size}; give it in the unit of the points")
    if clouds > 2**15:
        raise ValueError(f"expected at most {2**15} clouds in a batch, found {clouds}")
    cells = (points.detach().to(torch.promote_types(points.dtype, torch.float32)) / size).floor()
    check_range(cells)
    number = torch.zeros(len(points), dtype=torch.long, device=points.device) if batch is None else batch
    keys, kept = first_of_each(pack(torch.cat([number[:, None], cells.long()], dim=1)))
    return SparseTensor(features[kept], Voxels(keys, 1, clouds))


def add(first: SparseTensor, second: SparseTensor) -> SparseTensor:
    """Adds two tensors on the union of their voxels; missing voxels count as 0.

    Raises:
        ValueError: strides, batch sizes or channels differ.
    """
    here, there = first.voxels, second.voxels
    if here is there:
        return first.with_features(first.features + second.features)
    if (here.stride, here.batch_size) != (there.stride, there.batch_size):
        raise ValueError(
            f"tensors to be added must be of one grid, found strides {here.stride} and {there.stride}, batches "
            f"of {here.batch_size} and {there.batch_size} clouds"
        )
    if first.features.shape[1] != second.features.shape[1]:
        raise ValueError(
            f"tensors to be added must have equally many channels, found {first.features.shape[1]} and "
            f"{second.features.shape[1]}"
        )
    keys, rows = torch.cat([here.keys, there.keys]).unique(return_inverse=True)
    # If one side has all voxels, its object is reused, and with it the cached kernel maps.
    joined = next((voxels for voxels in (here, there) if len(voxels) == len(keys)), None)
    if joined is None:
        joined = Voxels(keys, here.stride, here.batch_size)
    dtype = torch.promote_types(first.features.dtype, second.features.dtype)
    total = first.features.new_zeros(len(keys), first.features.shape[1], dtype=dtype)
    for part, places in zip((first, second), rows.split([len(first), len(second)]), strict=True):
        total.index_add_(0, places, part.features.to(dtype))
    return SparseTensor(total, joined)


def prune(tensor: SparseTensor, keep: Tensor) -> SparseTensor:
    """Keeps the voxels selected by a mask (N,); if it selects all, returns the tensor itself."""
    if keep.shape != (len(tensor),) or keep.dtype != torch.bool:
        raise ValueError(
            f"expected a mask of {len(tensor)} booleans for as many voxels, found {keep.dtype} of shape "
            f"{tuple(keep.shape)}"
        )
    if bool(keep.all()):
        return tensor
    voxels = tensor.voxels
    return SparseTensor(tensor.features[keep], Voxels(voxels.keys[keep], voxels.stride, voxels.batch_size))


def highest(scores: Tensor, voxels: Voxels, count: int) -> Tensor:
    """A mask (N,) of the `count` voxels of each cloud with the highest scores (N,); ties take the first.

    A cloud with fewer voxels keeps all.
    """
    if scores.shape != (len(voxels),):
        raise ValueError(f"expected {len(voxels)} scores for as many voxels, found {tuple(scores.shape)}")
    if count < 1:
        raise ValueError(f"expected to keep at least 1 voxel of a cloud, found {count}")
    best = scores.detach().argsort(descending=True, stable=True)
    best = best[voxels.batch[best].argsort(stable=True)]  # sorted by cloud, in each by descending score
    sizes = voxels.batch.bincount(minlength=voxels.batch_size)
    rank = torch.arange(len(voxels), device=best.device) - (sizes.cumsum(0) - sizes)[voxels.batch]
    return torch.zeros_like(best, dtype=torch.bool).index_put_((best,), rank < count)
