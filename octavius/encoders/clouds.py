"""Validates batches of point clouds (points with a batch vector) and counts the points of each cloud."""

import torch
from torch import Tensor


def cloud_sizes(points: Tensor, batch: Tensor | None, batch_size: int | None = None) -> list[int]:
    """Number of points of each of the B clouds.

    Args:
        points: (P, D) positions, finite.
        batch: (P,) cloud of each point, ascending; None for a single cloud.
        batch_size: number B of clouds; by default taken from the last entry of the batch vector.

    Raises:
        ValueError: the tensors are malformed, or a cloud is empty.
    """
    sizes = _sizes("points", points, batch)
    sizes += [0] * ((batch_size or 1) - len(sizes))
    if batch_size is not None and len(sizes) > batch_size:
        raise ValueError(f"expected {batch_size} clouds, found points of cloud {len(sizes) - 1}")
    if 0 in sizes:
        raise ValueError(
            f"cloud {sizes.index(0)} of {len(sizes)} has no points; leave empty clouds out of the batch"
        )
    return sizes


def query_sizes(points: Tensor, queries: Tensor, batch: Tensor | None, clouds: int) -> list[int]:
    """Number of query points of each cloud, which may be 0.

    Args:
        points: (P, D) positions, already checked.
        queries: (Q, D) positions, finite.
        batch: (Q,) cloud of each query, ascending; None for a single cloud.
        clouds: number of clouds of the points.

    Raises:
        ValueError: the tensors are malformed, or do not match the points.
    """
    sizes = _sizes("queries", queries, batch)
    if queries.shape[1] != points.shape[1]:
        raise ValueError(f"points have {points.shape[1]} axes, but queries have {queries.shape[1]}")
    if len(sizes) > clouds:
        raise ValueError(f"found queries of cloud {len(sizes) - 1}, but points of {clouds} clouds only")
    return sizes + [0] * (clouds - len(sizes))


def _sizes(what: str, points: Tensor, batch: Tensor | None) -> list[int]:
    """Number of points of each cloud, up to the last cloud that has any."""
    if points.dim() != 2 or not points.is_floating_point() or points.shape[1] == 0:
        raise ValueError(
            f"expected {what} as a float tensor (P, D), found {points.dtype} of shape {tuple(points.shape)}"
        )
    good = points.isfinite().all(1)
    if not bool(good.all()):
        bad = int(good.logical_not().nonzero()[0])
        raise ValueError(
            f"{len(good) - int(good.sum())} of {len(good)} {what} are NaN or infinite, first number {bad} at "
            f"{points[bad].tolist()}; drop them when the file is read"
        )
    if batch is None:
        return [len(points)]
    if batch.shape != (len(points),) or batch.dtype != torch.long:
        raise ValueError(
            f"expected a batch vector of {len(points)} integers (torch.long) for {len(points)} {what}, found "
            f"{batch.dtype} of shape {tuple(batch.shape)}"
        )
    if len(batch) and (int(batch[0]) < 0 or bool((batch.diff() < 0).any())):
        raise ValueError(
            f"the batch vector of the {what} must ascend from 0, cloud after cloud; sort the {what} by it"
        )
    return batch.bincount().tolist()
