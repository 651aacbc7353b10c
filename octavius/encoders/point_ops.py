"""Point-cloud operations on batched clouds: farthest-point sampling, k nearest neighbours, voxel grids.

Conventions are those of torch-geometric: the points of all clouds are concatenated in one tensor, a batch
vector holds the cloud of each point (0, 0, 0, 1, 1, ...; None for a single cloud), and results are indices
into that tensor, without gradient. If `pyg-lib` is installed its compiled operations are used; otherwise
plain torch gives the same results, except for the choice among ties. Shapes: P points of B clouds, Q query
points, D axes.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import accumulate

import torch
from torch import Tensor
from torch_geometric import typing
from torch_geometric.nn import pool
from torch_geometric.utils import to_dense_batch

from octavius.encoders.clouds import cloud_sizes, query_sizes

DISTANCES = 2**24
"""Distances held in memory at a time."""
LIBRARY_NEIGHBOURS = 100
"""Largest k of the library's `knn` on a GPU."""


def farthest_points(points: Tensor, count: int, batch: Tensor | None = None) -> Tensor:
    """Farthest-point sampling: repeatedly picks the point of a cloud that is farthest from all picked ones.

    Starts at the first point of each cloud, so that the result is deterministic; among ties the first point
    is taken. If a cloud has fewer than `count` distinct positions, its first point is repeated.

    Args:
        points: (P, D) positions.
        count: number of points to pick per cloud.
        batch: (P,) cloud of each point.

    Returns:
        Indices (B * count,), cloud after cloud, in the order in which they were picked.

    Raises:
        ValueError: the smallest cloud has fewer than `count` points.
    """
    sizes = cloud_sizes(points, batch)
    if not 1 <= count <= min(sizes):
        raise ValueError(
            f"expected a count from 1 to {min(sizes)}, the size of the smallest cloud (number "
            f"{sizes.index(min(sizes))}), found {count}; repeat the points of small clouds first"
        )
    (points,) = _computable(points)
    if typing.WITH_FPS:
        return _farthest_by_library(points, sizes, count)
    dense, real = to_dense_batch(points, batch)
    planes = dense.permute(2, 0, 1).contiguous()  # (D, B, N): sums over axes are contiguous in memory
    clouds = torch.arange(len(sizes), device=points.device)
    chosen = clouds.new_zeros(len(sizes), count)
    distances = torch.where(real, math.inf, -math.inf).to(points.dtype)  # padding is never the farthest
    for index in range(1, count):
        last = planes[:, clouds, chosen[:, index - 1], None]
        distances = torch.minimum(distances, (planes - last).square_().sum(0))
        chosen[:, index] = distances.argmax(1)
    return (chosen + chosen.new_tensor(_starts(sizes))[:, None]).flatten()


def k_nearest(
    points: Tensor, queries: Tensor, k: int, batch: Tensor | None = None, query_batch: Tensor | None = None
) -> Tensor:
    """Finds the k points nearest to each query, within the query's cloud.

    Args:
        points: (P, D) positions.
        queries: (Q, D) positions.
        k: number of neighbours per query.
        batch: (P,) cloud of each point.
        query_batch: (Q,) cloud of each query; a cloud may have none.

    Returns:
        (2, Q * k) query indices in the first row, point indices in the second; query after query, nearest
        first.

    Raises:
        ValueError: the smallest cloud has fewer than k points.
    """
    sizes = cloud_sizes(points, batch)
    asked = query_sizes(points, queries, query_batch, len(sizes))
    if not 1 <= k <= min(sizes):
        raise ValueError(
            f"expected k from 1 to {min(sizes)}, the size of the smallest cloud (number "
            f"{sizes.index(min(sizes))}), found k = {k}; ask for fewer neighbours or repeat points first"
        )
    points, queries = _computable(points, queries)
    if typing.WITH_KNN and (k <= LIBRARY_NEIGHBOURS or not points.is_cuda):
        batches = _numbers(sizes, points), _numbers(asked, points)
        return pool.knn(points, queries, k, *batches, batch_size=len(sizes))
    near = [
        distances.topk(k, largest=False).indices + start
        for distances, start in _distances(points, queries, sizes, asked)
    ]
    found = torch.cat(near).flatten() if near else points.new_zeros(0, dtype=torch.long)
    return torch.stack([torch.arange(len(queries), device=points.device).repeat_interleave(k), found])


def voxel_grid(
    points: Tensor,
    size: float | Sequence[float],
    batch: Tensor | None = None,
    start: float | Sequence[float] | None = None,
) -> Tensor:
    """Index of the cell of a regular grid that each point lies in.

    Cells are numbered along the first axis first and along the clouds last. Empty cells are numbered too, so
    indices have gaps (`torch_geometric.nn.pool.consecutive.consecutive_cluster` closes them).

    Args:
        points: (P, D) positions.
        size: edge of a cell, one for all axes or one per axis.
        batch: (P,) cloud of each point.
        start: lower corner of the grid, one number for all axes or one per axis; by default the smallest
            coordinates of all points.

    Returns:
        (P,) cell index of each point; equal for points of one cloud in one cell.

    Raises:
        ValueError: the size is not positive, points lie below `start`, or there are too many cells to number.
    """
    sizes = cloud_sizes(points, batch)
    (points,) = _computable(points)
    edges = _per_axis("size", size, points)
    corner = points.amin(0) if start is None else _per_axis("start", start, points)
    if not bool((edges > 0).all()):
        raise ValueError(f"expected a voxel size above 0, found {size}; give it in the unit of the points")
    if bool((points < corner).any()):
        low = [round(value, 4) for value in points.amin(0).tolist()]
        raise ValueError(f"a grid that starts at {start} misses the points down to {low}; let it start there")
    spans = ((points.amax(0) - corner) / edges).tolist()
    if math.prod(span + 1 for span in spans) * len(sizes) >= 2**62:
        raise ValueError(
            f"a grid of {' x '.join(f'{span + 1:.3g}' for span in spans)} cells is too large to be numbered; "
            f"points far away from the others, or a voxel size of {size} in another unit than the points, may "
            "be the cause"
        )
    extents = [int(span) + 1 for span in spans]
    numbers = _numbers(sizes, points)
    if typing.WITH_GRID_CLUSTER:
        return pool.voxel_grid(points, edges, numbers, corner)
    cells = torch.cat([((points - corner) / edges).long(), numbers[:, None]], dim=1)
    steps = [1, *accumulate(extents, lambda step, extent: step * extent)]
    return (cells * cells.new_tensor(steps)).sum(1)


def _distances(
    points: Tensor, queries: Tensor, sizes: list[int], asked: list[int]
) -> Iterator[tuple[Tensor, int]]:
    """Distances of chunks of queries (rows) to all points of their cloud, with the index of its first point."""
    for cloud, start, part_queries in zip(
        points.split(sizes), _starts(sizes), queries.split(asked), strict=True
    ):
        for part in part_queries.split(max(1, DISTANCES // len(cloud))) if len(part_queries) else ():
            # Distances via matrix products would lose small values far from the origin.
            distances = torch.cdist(part, cloud, compute_mode="donot_use_mm_for_euclid_dist")
            yield distances, start


def _farthest_by_library(points: Tensor, sizes: list[int], count: int) -> Tensor:
    """The library's farthest-point sampling, which takes a ratio instead of a count."""
    if len(set(sizes)) > 1:
        clouds = zip(points.split(sizes), _starts(sizes), strict=True)
        return torch.cat(
            [_farthest_by_library(cloud, [len(cloud)], count) + start for cloud, start in clouds]
        )
    ratio = (count - 0.5) / sizes[0]  # it rounds up: half a point less allows for rounding errors
    return pool.fps(points, _numbers(sizes, points), ratio, random_start=False, batch_size=len(sizes))


def _computable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Detached, contiguous tensors in their widest dtype, at least single precision."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return tuple(tensor.detach().to(dtype).contiguous() for tensor in tensors)


def _per_axis(what: str, value: float | Sequence[float], points: Tensor) -> Tensor:
    given = points.new_tensor(value)
    axes = points.shape[1]
    if given.shape not in ((), (axes,)) or not bool(given.isfinite().all()):
        raise ValueError(f"expected one number or {axes} as {what} of a grid of {axes} axes, found {value}")
    return given.expand(axes).contiguous()


def _numbers(sizes: list[int], points: Tensor) -> Tensor:
    """The batch vector of clouds of these sizes."""
    counts = torch.tensor(sizes, device=points.device)
    return torch.arange(len(sizes), device=points.device).repeat_interleave(counts)


def _starts(sizes: list[int]) -> list[int]:
    return [0, *accumulate(sizes)][:-1]
