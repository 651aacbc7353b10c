"""A memory-saving autograd function for weighted sums of low-rank maps.

    y = sum over e of w_e B_e A_e (x * mask)

Plain autograd would save the masked input in full width, the hidden values before and after weighting, and the copies
of matrices that were cast or gathered. This one saves x itself, which the frozen layer may save too, the mask at one
byte per element, and the hidden values once; the rest is recomputed in backward.
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
    """Computes the weighted sum of experts; differentiable once in x, down, up and weights.

    Args:
        x: inputs (G, T, D).
        down: A of all experts, (E, R, D), or one that they share, (1, R, D).
        up: B of all experts, (D_out, E, R).
        weights: expert weights (G, 1, E), (1, 1, E) or (G, T, E); with `chosen` those of the chosen, (G, 1, K).
        chosen: indices of the K experts that each group uses, (G, K); None uses all.
        mask: true where an input is not dropped, (G, T, D).

    Returns:
        (G, T, D_out), in the dtype of x (or of autocast).
    """
    if torch.is_grad_enabled():
        y: Tensor = _LowRank.apply(x, down, up, weights, chosen, mask)
        return y
    return _forward(x, down, up, weights, chosen, mask)[0]


def add_without_backward(out: Tensor, x: Tensor, down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """Adds the weighted sum of all experts to `out` in as few operations as possible, without gradients.

    Generation calls it for every token, where the overhead per operation outweighs the arithmetic.

    Args:
        out: output of the frozen layer, (B, ..., D_out).
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).

    Returns:
        (B, ..., D_out), in the dtype of `out`.
    """
    dtype, experts = computing_type(x), gate.shape[-1]
    hidden = F.linear(_as(x, dtype), _as(down, dtype))
    # Broadcasts over the dimensions of x that the gate lacks, and over the rank.
    weights = gate.reshape(*gate.shape[:-1], *[1] * (x.dim() - gate.dim()), experts, 1)
    hidden.view(*hidden.shape[:-1], experts, -1).mul_(weights)
    if out.dtype is not dtype:  # addmm wants one dtype
        return out + F.linear(hidden, _as(up, dtype)).to(out.dtype)
    flat = out.reshape(-1, out.shape[-1]), hidden.reshape(-1, hidden.shape[-1])
    return torch.addmm(*flat, _as(up, dtype).T).view(out.shape)


class _LowRank(torch.autograd.Function):
    """The weighted sum with a backward pass of its own (see the module)."""

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
        """Computes the sum, and saves for backward what cannot be recomputed."""
        y, hidden = _forward(x, down, up, weights, chosen, mask)
        ctx.save_for_backward(x, down, up, weights, chosen, mask, hidden)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, down, up and weights, from that of the output, `grad` (G, T, D_out)."""
        x, down, up, weights, chosen, mask, hidden = ctx.saved_tensors
        x_wanted, down_wanted, up_wanted, weights_wanted = ctx.needs_input_grad[:4]
        # Of a shared A nothing is chosen.
        dtype, picked = hidden.dtype, None if len(down) == 1 else chosen
        grad, weights, mask = grad.to(dtype), weights.unsqueeze(-1), _factors(mask, dtype)
        grad_up = grad_weights = grad_down = grad_x = None
        if up_wanted:
            gated = (hidden * weights).flatten(-2).to(dtype)
            grad_up = _matrix_grad(grad, gated, up, chosen, 1)
        # (G, T, K, R): gradient of the hidden values after weighting.
        grad_gated = torch.matmul(grad, _up(up, chosen, dtype)).unflatten(-1, (-1, up.shape[-1]))
        if weights_wanted:  # in the dtype of the weights, fp32 from a gate, since it sums over tokens
            # Weights that were broadcast over tokens or groups get the sum of their gradients.
            each = (grad_gated.to(weights.dtype) * hidden).sum(-1, keepdim=True)
            grad_weights = each.sum_to_size(weights.shape).squeeze(-1)
        if down_wanted or x_wanted:
            # With a shared A the hidden values are (G, T, 1, R), and the experts' gradients add up in them.
            grad_hidden = (grad_gated * weights).sum_to_size(hidden.shape).flatten(-2).to(dtype)
        if down_wanted:
            grad_down = _matrix_grad(grad_hidden, _masked(x.to(dtype), mask), down, picked, 0)
        if x_wanted:
            grad_x = torch.matmul(grad_hidden, _down(down, picked, dtype))
            # In place: the product is a new tensor that nothing else refers to.
            grad_x = grad_x if mask is None else grad_x.mul_(mask)
        return grad_x, grad_down, grad_up, grad_weights, None, None


def _forward(
    x: Tensor, down: Tensor, up: Tensor, weights: Tensor, chosen: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns the sum (G, T, D_out) and the hidden values A x before weighting, (G, T, K or 1, R)."""
    dtype = computing_type(x)
    a = _down(down, None if len(down) == 1 else chosen, dtype)
    # Multiplied in place into the cast copy of the mask, which saves one tensor of full width.
    left = x.to(dtype) if mask is None else mask.to(dtype).mul_(x)
    hidden = _apply(left, a).unflatten(-1, (-1, up.shape[-1]))
    # Weights in fp32 promote this product to fp32; it is rounded once, after weighting.
    gated = (hidden * weights.unsqueeze(-1)).flatten(-2).to(dtype)
    return _apply(gated, _up(up, chosen, dtype)), hidden


def computing_type(x: Tensor) -> torch.dtype:
    """The dtype to compute in: that of autocast where it is on for the device, else that of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def _factors(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Casts the mask to the dtype of its factors once; a boolean mask would be converted at each product."""
    return None if mask is None else mask.to(dtype)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _apply(x: Tensor, matrix: Tensor) -> Tensor:
    """Applies one matrix (N, M) to all groups (G, T, M), or one per group, (G, N, M)."""
    return F.linear(x, matrix) if matrix.dim() == 2 else torch.bmm(x, matrix.mT)


def _down(down: Tensor, chosen: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A as one matrix (E * R, D) of all experts, or one per group of its chosen experts, (G, K * R, D)."""
    if chosen is None:
        return down.flatten(0, 1).to(dtype)
    picked = down.index_select(0, chosen.flatten())
    return picked.reshape(len(chosen), -1, down.shape[-1]).to(dtype)


def _up(up: Tensor, chosen: Tensor | None, dtype: torch.dtype) -> Tensor:
    """B as one matrix (D_out, E * R) of all experts, or one per group of its chosen experts, (G, D_out, K * R)."""
    if chosen is None:
        return up.flatten(1).to(dtype)
    picked = up.index_select(1, chosen.flatten())
    return picked.reshape(len(up), len(chosen), -1).transpose(0, 1).to(dtype)


def _matrix_grad(
    grad: Tensor, values: Tensor, part: Tensor, chosen: Tensor | None, experts_at: int
) -> Tensor:
    """Gradient of `down` or `up`, from the gradient of its output (G, T, M) and its input (G, T, N).

    `experts_at` is the dimension of `part` that counts experts.
    """
    if chosen is None:
        return (grad.flatten(0, 1).T @ values.flatten(0, 1)).view_as(part)
    each = torch.bmm(grad.mT, values)
    if experts_at == 0:
        each = each.reshape(-1, *part.shape[1:])
    else:
        each = each.transpose(0, 1).reshape(len(part), -1, part.shape[-1])
    # Groups may share experts, whose gradients are then added.
    return torch.zeros_like(part).index_add_(experts_at, chosen.flatten(), each.to(part.dtype))
