"""Inputs, experts and weights come in, the weighed sum of low-rank maps goes out, and little is kept for backward.

    y = sum over e of w_e B_e A_e (x * mask)

Plain autograd would keep the masked input in full width, the hidden values before and after weighing, and copies of
matrices that were cast or picked out. Here it keeps x itself, which other readers of x share, the mask in one byte a
number, and the hidden values once; the rest is made again from them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def low_rank(
    x: Tensor,
    down: Tensor,
    up: Tensor,
    weights: Tensor,
    chosen: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The weighed sum of experts, once differentiable in x, down, up and weights.

    Args:
        x: inputs (G, T, D).
        down: A of all experts, (E, R, D), or one that they share, (1, R, D).
        up: B of all experts, (D_out, E, R).
        weights: of each expert, (G, 1, E), (1, 1, E) or (G, T, E); with `chosen` of each of those, (G, 1, K).
        chosen: the experts that each group of rows uses, (G, K); without it, all.
        mask: true where an input is not dropped, (G, T, D).

    Returns:
        (G, T, D_out), in the type of x (or of autocast).
    """
    if torch.is_grad_enabled():
        y: Tensor = _LowRank.apply(x, down, up, weights, chosen, mask)
        return y
    return _forward(x, down, up, weights, chosen, mask)[0]


def add_without_backward(out: Tensor, x: Tensor, down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """The weighed sum of all experts on top of `out`, in the fewest operations: generation runs it for every token.

    Args:
        out: what the frozen layer gave, (B, ..., D_out).
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).

    Returns:
        (B, ..., D_out), in the type of `out`.
    """
    dtype, experts = computing_type(x), gate.shape[-1]
    hidden = F.linear(_as(x, dtype), _as(down, dtype))
    weights = gate.reshape(*gate.shape[:-1], *[1] * (x.dim() - gate.dim()), experts, 1)
    hidden.view(*hidden.shape[:-1], experts, -1).mul_(weights)
    if out.dtype is not dtype:
        return out + F.linear(hidden, _as(up, dtype)).to(out.dtype)
    flat = out.reshape(-1, out.shape[-1]), hidden.reshape(-1, hidden.shape[-1])
    return torch.addmm(*flat, _as(up, dtype).T).view(out.shape)


class _LowRank(torch.autograd.Function):
    """The sum with its own backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        down: Tensor,
        up: Tensor,
        weights: Tensor,
        chosen: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Computes the sum."""
        y, hidden = _forward(x, down, up, weights, chosen, mask)
        ctx.save_for_backward(x, down, up, weights, chosen, mask, hidden)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, down, up and weights, in this order."""
        x, down, up, weights, chosen, mask, hidden = ctx.saved_tensors
        x_wanted, down_wanted, up_wanted, weights_wanted = ctx.needs_input_grad[:4]
        dtype, picked = hidden.dtype, None if len(down) == 1 else chosen
        slope, weights, mask = slope.to(dtype), weights.unsqueeze(-1), _factors(mask, dtype)
        slope_up = slope_weights = slope_down = slope_x = None
        if up_wanted:
            gated = (hidden * weights).flatten(-2).to(dtype)
            slope_up = _matrix_slope(slope, gated, up, chosen, 1)
        slope_gated = torch.matmul(slope, _up(up, chosen, dtype)).unflatten(-1, (-1, up.shape[-1]))
        if weights_wanted:  # in the type of the weights, so that they are summed up in fp32
            each = (slope_gated.to(weights.dtype) * hidden).sum(-1, keepdim=True)
            slope_weights = each.sum_to_size(weights.shape).squeeze(-1)
        if down_wanted or x_wanted:
            slope_hidden = (slope_gated * weights).sum_to_size(hidden.shape).flatten(-2).to(dtype)
        if down_wanted:
            slope_down = _matrix_slope(slope_hidden, _masked(x.to(dtype), mask), down, picked, 0)
        if x_wanted:
            slope_x = torch.matmul(slope_hidden, _down(down, picked, dtype))
            slope_x = slope_x if mask is None else slope_x.mul_(mask)
        return slope_x, slope_down, slope_up, slope_weights, None, None


def _forward(
    x: Tensor, down: Tensor, up: Tensor, weights: Tensor, chosen: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The sum (G, T, D_out), and the values between the halves before they are weighed, (G, T, K or 1, R)."""
    dtype = computing_type(x)
    a = _down(down, None if len(down) == 1 else chosen, dtype)
    left = x.to(dtype) if mask is None else mask.to(dtype).mul_(x)
    hidden = _apply(left, a).unflatten(-1, (-1, up.shape[-1]))
    # Weights in fp32 promote this product.
    gated = (hidden * weights.unsqueeze(-1)).flatten(-2).to(dtype)
    return _apply(gated, _up(up, chosen, dtype)), hidden


def computing_type(x: Tensor) -> torch.dtype:
    """The type to compute in: that of x, or of autocast."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def _factors(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The mask in the type of what it multiplies: booleans would be converted at each product."""
    return None if mask is None else mask.to(dtype)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _apply(x: Tensor, matrix: Tensor) -> Tensor:
    """One matrix for all groups, or one for each."""
    return F.linear(x, matrix) if matrix.dim() == 2 else torch.bmm(x, matrix.mT)


def _down(down: Tensor, chosen: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A as one matrix (E * R, D), or as one for each group of rows, (G, K * R, D)."""
    if chosen is None:
        return down.flatten(0, 1).to(dtype)
    picked = down.index_select(0, chosen.flatten())
    return picked.reshape(len(chosen), -1, down.shape[-1]).to(dtype)


def _up(up: Tensor, chosen: Tensor | None, dtype: torch.dtype) -> Tensor:
    """B as one matrix (D_out, E * R), or as one for each group of rows, (G, D_out, K * R)."""
    if chosen is None:
        return up.flatten(1).to(dtype)
    picked = up.index_select(1, chosen.flatten())
    return picked.reshape(len(up), len(chosen), -1).transpose(0, 1).to(dtype)


def _matrix_slope(
    slope: Tensor, values: Tensor, part: Tensor, chosen: Tensor | None, experts_at: int
) -> Tensor:
    """The gradient of `down` or `up`, from that of what it made (G, T, M) and what it was applied to, (G, T, N)."""
    if chosen is None:
        return (slope.flatten(0, 1).T @ values.flatten(0, 1)).view_as(part)
    each = torch.bmm(slope.mT, values)
    if experts_at == 0:
        each = each.reshape(-1, *part.shape[1:])
    else:
        each = each.transpose(0, 1).reshape(len(part), -1, part.shape[-1])
    return torch.zeros_like(part).index_add_(experts_at, chosen.flatten(), each.to(part.dtype))
