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
            raise ValueError(
                f"expected features of shape ({len(self.voxels)}, C), one row per voxel, found {shape}"
            )

    def __len__(self) -> int:
        return len(self.voxels)

    def with_features(self, features: Tensor) -> "SparseTensor":
        """The same voxels with the given features."""
        return SparseTensor(features, self.voxels)


def voxelise(
    points: Tensor,
    features: Tensor,
    size: float,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> SparseTensor:
    """Assigns the features of points to the voxels that contain them, at stride 1.

    The voxel coordinates of a point are floor(position / size); the lower corner of a voxel is at its coordinates
    times size. Of several points in one voxel the first is taken, so shuffled points give a random choice, as in
    MinkowskiEngine.

    Args:
        points: (P, 3) positions, finite.
        features: (P, C) features, such as colours; finite.
        size: edge of a voxel, in the unit of the points.
        batch: (P,) index of each point's cloud, sorted; None for a single cloud.
        batch_size: number of clouds; by default taken from the batch vector. Trailing empty clouds are detected
            only if this is given.

    Raises:
        ValueError: the tensors are malformed, a cloud is empty, or voxel coordinates exceed the range of a
            packed voxel key.
    """
    num_clouds = len(cloud_sizes(points, batch, batch_size))
    if points.shape[1] != 3:
        raise ValueError(f"expected positions (P, 3), found {tuple(points.shape)}")
    if features.dim() != 2 or len(features) != len(points) or not features.is_floating_point():
        raise ValueError(
            f"expected float features ({len(points)}, C) for {len(points)} points, found {features.dtype} of "
            f"shape {tuple(features.shape)}"
        )
    if not bool(features.isfinite().all()):
        raise ValueError(
            "some features of the points are NaN or infinite; drop these points when the file is read"
        )
    if not 0 < size < math.inf:
        raise ValueError(
            f"expected a positive and finite voxel size, found {size}; give it in the unit of the points"
        )
    if num_clouds > 2**15:
        raise ValueError(f"expected at most {2**15} clouds in a batch, found {num_clouds}")
    coords = (points.detach().to(torch.promote_types(points.dtype, torch.float32)) / size).floor()
    check_range(coords)
    index = torch.zeros(len(points), dtype=torch.long, device=points.device) if batch is None else batch
    keys, first = first_of_each(pack(torch.cat([index[:, None], coords.long()], dim=1)))
    return SparseTensor(features[first], Voxels(keys, 1, num_clouds))


def add(first: SparseTensor, second: SparseTensor) -> SparseTensor:
    """Adds two tensors on the union of their voxels; missing voxels count as 0.

    Raises:
        ValueError: strides, batch sizes or channels differ.
    """
    left, right = first.voxels, second.voxels
    if left is right:
        return first.with_features(first.features + second.features)
    if (left.stride, left.batch_size) != (right.stride, right.batch_size):
        raise ValueError(
            f"tensors to be added must have equal strides and batch sizes, found strides {left.stride} and "
            f"{right.stride}, batches of {left.batch_size} and {right.batch_size} clouds"
        )
    if first.features.shape[1] != second.features.shape[1]:
        raise ValueError(
            f"tensors to be added must have equally many channels, found {first.features.shape[1]} and "
            f"{second.features.shape[1]}"
        )
    keys, rows = torch.cat([left.keys, right.keys]).unique(return_inverse=True)
    # If one operand already covers the union, its `Voxels` are reused with their cached kernel maps. Its keys are
    # those of the union in the same order, since the keys of `Voxels` are sorted, as `unique` sorts them.
    joined = next((voxels for voxels in (left, right) if len(voxels) == len(keys)), None)
    if joined is None:
        joined = Voxels(keys, left.stride, left.batch_size)
    dtype = torch.promote_types(first.features.dtype, second.features.dtype)
    total = first.features.new_zeros(len(keys), first.features.shape[1], dtype=dtype)
    for part, part_rows in zip((first, second), rows.split([len(first), len(second)]), strict=True):
        total.index_add_(0, part_rows, part.features.to(dtype))
    return SparseTensor(total, joined)


def prune(tensor: SparseTensor, keep: Tensor) -> SparseTensor:
    """Keeps the voxels selected by a mask (N,); if it selects all, returns the tensor itself."""
    if keep.shape != (len(tensor),) or keep.dtype != torch.bool:
        raise ValueError(
            f"expected a boolean mask of shape ({len(tensor)},), one value per voxel, found {keep.dtype} of shape "
            f"{tuple(keep.shape)}"
        )
    if bool(keep.all()):
        return tensor
    voxels = tensor.voxels
    return SparseTensor(tensor.features[keep], Voxels(voxels.keys[keep], voxels.stride, voxels.batch_size))


def topk_mask(scores: Tensor, voxels: Voxels, k: int) -> Tensor:
    """A mask (N,) of the k voxels of each cloud with the highest scores (N,); ties go to the earlier voxel.

    A cloud with fewer voxels keeps all.
    """
    if scores.shape != (len(voxels),):
        raise ValueError(f"expected {len(voxels)} scores, one per voxel, found shape {tuple(scores.shape)}")
    if k < 1:
        raise ValueError(f"expected to keep at least 1 voxel of a cloud, found {k}")
    order = scores.detach().argsort(descending=True, stable=True)
    order = order[voxels.batch[order].argsort(stable=True)]  # sorted by cloud, in each by descending score
    sizes = voxels.batch.bincount(minlength=voxels.batch_size)
    rank = torch.arange(len(voxels), device=order.device) - (sizes.cumsum(0) - sizes)[voxels.batch]
    return torch.zeros_like(order, dtype=torch.bool).index_put_((order,), rank < k)
