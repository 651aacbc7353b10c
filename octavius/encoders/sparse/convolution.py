"""Gather-multiply-scatter convolution and max pooling over kernel maps."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from octavius.encoders.sparse.voxels import KernelMap


def convolve(features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
    """For each pair of a kernel map, adds the source's features times the offset's matrix to the target.

    Products are computed in the dtype of the features, or of autocast, and accumulated in at least single
    precision.

    Args:
        features: (N_in, C_in) features of the input voxels.
        kernel: (K^3, C_in, C_out) a matrix per offset.
        pairs: the kernel map.

    Returns:
        (N_out, C_out) features of the output voxels; zero for a target without sources.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features, kernel = features.to(dtype), kernel.to(dtype)
    return _Convolution.apply(features, kernel, pairs)


def largest(features: Tensor, pairs: KernelMap) -> Tensor:
    """The maximum of each channel over a target's sources.

    Args:
        features: (N_in, C) features of the input voxels.
        pairs: the kernel map; each target has a source.

    Returns:
        (N_out, C) features of the output voxels.
    """
    indices = pairs.targets[:, None].expand(-1, features.shape[1])
    start = features.new_zeros(pairs.size, features.shape[1])
    met = features.index_select(0, pairs.sources)
    return start.scatter_reduce(0, indices, met, reduce="amax", include_self=False)


class _Convolution(Function):
    """`convolve` with its own backward pass.

    Autograd would keep the gathered rows of each offset, and allocate a full-size gradient for each. This
    keeps the features, gathers again, and accumulates in place.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, pairs: KernelMap) -> Tensor:
        """The output (N_out, C_out), accumulated offset by offset."""
        ctx.save_for_backward(features, kernel, pairs.sources, pairs.targets)
        ctx.counts = pairs.counts
        total = _zeros(features, pairs.size, kernel.shape[2])
        sides = zip(pairs.sources.split(pairs.counts), pairs.targets.split(pairs.counts), strict=True)
        for matrix, (sources, targets) in zip(kernel, sides, strict=True):
            if len(sources):
                _give(total, targets, _take(features, sources) @ matrix)
        return total.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradients of features and kernel, if needed."""
        features, kernel, sources, targets = ctx.saved_tensors
        of_features = _zeros(features, *features.shape) if ctx.needs_input_grad[0] else None
        of_kernel = torch.zeros_like(kernel) if ctx.needs_input_grad[1] else None
        sides = zip(sources.split(ctx.counts), targets.split(ctx.counts), strict=True)
        for offset, (here, there) in enumerate(sides):
            if not len(here):
                continue
            arrived = _take(gradient, there)
            if of_features is not None:
                _give(of_features, here, arrived @ kernel[offset].T)
            if of_kernel is not None:
                torch.mm(_take(features, here).T, arrived, out=of_kernel[offset])
        return None if of_features is None else of_features.to(features.dtype), of_kernel, None


def _take(rows: Tensor, indices: Tensor) -> Tensor:
    """Gathers rows at distinct, ascending indices; as many indices as rows are all rows in order."""
    return rows if len(indices) == len(rows) else rows.index_select(0, indices)


def _give(total: Tensor, indices: Tensor, rows: Tensor) -> None:
    """Adds rows at distinct, ascending indices, in place."""
    if len(indices) == len(total):
        total += rows.to(total.dtype)
    else:
        total.index_add_(0, indices, rows.to(total.dtype))


def _zeros(like: Tensor, rows: int, width: int) -> Tensor:
    return like.new_zeros(rows, width, dtype=torch.promote_types(like.dtype, torch.float32))
