"""Inputs, experts and gate weights come in, the experts' weighed sum goes out: one sum, three ways to compute it.

    y = sum over e of g_e B_e A_e (x * mask)

`down` holds the A of all experts under each other, (E * R, D), or one A that all share, (R, D); `up` holds the B of
all experts beside each other, (D_out, E * R). `gate` has a row for each sample, (B, E), for each token, (B, T, E), or
one for all, (1, E); its weights are scaled already. `mask` is dropout's: true where an input stays. Every way gives
the same values and gradients, in the type of x (or of autocast); products with a weight are made and summed up in the
gate's type. None makes a tensor of experts by width for every token.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from octavius.lora_moe.low_rank import computing_type, low_rank


def concatenated(
    x: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor,
    kept: int = 0,  # noqa: ARG001
    mask: Tensor | None = None,
) -> Tensor:
    """All experts as one low-rank pair of width E * R, with the gate between its halves.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        kept: of no use here.
        mask: where x is not dropped, (B, ..., D).

    Returns:
        (B, ..., D_out).
    """
    a, b = _split(down, up, gate.shape[-1])
    weights = gate if gate.dim() == 3 else gate.unsqueeze(1)
    shape = len(x), -1, x.shape[-1]
    mask = None if mask is None else mask.reshape(shape)
    return low_rank(x.reshape(shape), a, b, weights, None, mask).reshape(*x.shape[:-1], -1)


def gathered(
    x: Tensor, down: Tensor, up: Tensor, gate: Tensor, kept: int, mask: Tensor | None = None
) -> Tensor:
    """Only the matrices of the experts that a row uses, copied out for it, in batched products.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E), at most `kept` of a row not zero. Those that are left out get
            the gradient 0: a gate that cuts to its largest weights passes none to the others anyway.
        kept: how many experts of a row are computed, 1..E.
        mask: where x is not dropped, (B, ..., D).

    Returns:
        (B, ..., D_out).
    """
    a, b = _split(down, up, gate.shape[-1])
    gate, rows, mask = _groups(x, gate, mask)
    chosen = gate.detach().abs().topk(kept, dim=-1).indices
    weights = gate.gather(1, chosen).unsqueeze(1)
    return low_rank(rows, a, b, weights, chosen, mask).reshape(*x.shape[:-1], -1)


def merged(
    x: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor,
    kept: int = 0,  # noqa: ARG001
    mask: Tensor | None = None,
) -> Tensor:
    """The matrix that the experts add up to, made for each row of the gate, then applied.

    Of experts that share A only the halves B are added up, to the B of one plain LoRA.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        kept: of no use here.
        mask: where x is not dropped, (B, ..., D).

    Returns:
        (B, ..., D_out).
    """
    a, b = _split(down, up, gate.shape[-1])
    gate, rows, mask = _groups(x, gate, mask)
    if (
        len(a) == 1
    ):  # one B for each row of the gate, as if these were the experts, each chosen by its own rows
        mixed = torch.einsum("ge,oer->ogr", gate, b.to(gate.dtype))
        own = None if len(gate) == 1 else torch.arange(len(gate), device=gate.device).unsqueeze(1)
        y = low_rank(rows, a, mixed, gate.new_ones(1, 1, 1), own, mask)
    else:
        matrix = fold(down, up, gate).to(x.dtype)
        y = torch.bmm(rows if mask is None else rows * mask, matrix.mT)
    return y.reshape(*x.shape[:-1], -1)


def fold(down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """What the experts add to the frozen matrix: sum over e of g_e B_e A_e.

    Args:
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (..., E), scaled already.

    Returns:
        Matrices (..., D_out, D), in the type of the gate (or of autocast).
    """
    a, b = _split(down, up, gate.shape[-1])
    weighed = b * gate[..., None, :, None]  # (..., D_out, E, R)
    weighed = weighed.sum(-2) if len(a) == 1 else weighed.flatten(-2)
    return weighed @ down.to(weighed.dtype)


Backend = Callable[[Tensor, Tensor, Tensor, Tensor, int, Tensor | None], Tensor]

BackendName: TypeAlias = Literal["auto", "concatenated", "gathered", "merged"]
"""A way to compute the sum, or `auto`, the fastest for the sizes at hand: see `choose`."""

BACKENDS: dict[str, Backend] = {"concatenated": concatenated, "gathered": gathered, "merged": merged}
"""The ways to compute the sum, by name."""


def choose(x: Tensor, down: Tensor, up: Tensor, gate: Tensor, kept: int) -> str:
    """The name of the backend that is the fastest for inputs of these sizes.

    A rule fitted to times on a CPU (`bench/routed_layer.py`). In tokens that one expert is applied to, copying
    its matrices for one row costs as much as 80 tokens, in half precision, whose products are faster, as much as
    250; reading them in place costs as much as 8. Experts of one A are
    added up when there are more than some 300 tokens by experts in a row, others only without autograd, where the
    matrix of full width is not kept, and where adding up takes fewer multiplications.

    Args:
        x: inputs (B, ..., D); of all arguments only the sizes count, and of this one the type (or autocast's).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        kept: how many experts a row uses at most.
    """
    experts, rows, width = gate.shape[-1], len(gate), x.shape[-1]
    if gate.dim() == 3 or experts == 1:
        return "concatenated"
    tokens = x.numel() // (rows * width)
    if len(down) < up.shape[1]:
        return "merged" if tokens * experts >= 300 else "concatenated"
    applied = len(down) // experts * (width + len(up))  # multiplications of one expert on one token
    name, least = "concatenated", applied * experts * (rows * tokens + 8)
    gathering = applied * kept * rows * (tokens + (80 if computing_type(x).itemsize >= 4 else 250))
    if gathering < least:
        name, least = "gathered", gathering
    if not torch.is_grad_enabled() and rows * width * len(up) * (len(down) + tokens) < least:
        name = "merged"
    return name


def _split(down: Tensor, up: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """The experts apart: A (E, R, D), or (1, R, D) when it is shared, and B (D_out, E, R)."""
    b = up.unflatten(1, (experts, -1))
    return down.unflatten(0, (-1, b.shape[-1])), b


def _groups(x: Tensor, gate: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """A gate (G, E), and the inputs of each of its rows with their mask, (G, T, D)."""
    if gate.dim() == 3:
        gate = gate.expand(*x.shape[:-1], -1).flatten(0, 1)
    shape = len(gate), -1, x.shape[-1]
    return gate, x.reshape(shape), None if mask is None else mask.reshape(shape)
