"""Inputs, experts and gate weights come in, the experts' weighed sum goes out: one sum, three ways to compute it.

    y = sum over e of g_e B_e A_e x

`down` holds the A of all experts under each other, (E * R, D), or one A that all share, (R, D); `up` holds the B of
all experts beside each other, (D_out, E * R). `gate` is a row for each sample, (B, E), a row for each token,
(B, T, E), or a single row for all, (1, E); its weights are scaled already. Every way gives the same values and
gradients, in the type of x (or of autocast); products with a weight are made and summed up in the gate's type.
No way makes a tensor of experts by width for every token.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def concatenated(x: Tensor, down: Tensor, up: Tensor, gate: Tensor, kept: int = 0) -> Tensor:
    """All experts as one low-rank pair of width E * R, with the gate between its halves.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        kept: of no use here.

    Returns:
        (B, ..., D_out).
    """
    # The small matrices are cast to x, not x to them: a cast x would be kept for backward at full width.
    hidden = F.linear(x, down.to(x.dtype))
    hidden = hidden.unflatten(-1, (-1, up.shape[1] // gate.shape[-1]))  # (B, ..., E, R); (B, ..., 1, R) of one A
    if gate.dim() < x.dim():
        gate = gate.reshape(len(gate), *[1] * (x.dim() - 2), -1)
    gated = (hidden * gate.unsqueeze(-1)).flatten(-2)
    return F.linear(gated.to(hidden.dtype), up.to(hidden.dtype))


def gathered(x: Tensor, down: Tensor, up: Tensor, gate: Tensor, kept: int) -> Tensor:
    """Only the matrices of the experts that a row uses, copied out for it, in batched products.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E), at most `kept` of a row not zero. Those that are left out get
            the gradient 0: a gate that cuts to its largest weights passes none to the others anyway.
        kept: how many experts of a row are computed, 1..E.

    Returns:
        (B, ..., D_out).
    """
    gate, rows = _rows(x, gate)
    experts, rank = gate.shape[1], up.shape[1] // gate.shape[1]
    chosen = gate.detach().abs().topk(kept, dim=-1).indices
    hidden = F.linear(rows, down.to(x.dtype)).unsqueeze(2) if _is_shared(down, up) else None
    if hidden is None:
        picked = down.unflatten(0, (experts, rank)).index_select(0, chosen.flatten())
        picked = picked.reshape(len(rows), kept * rank, -1).to(x.dtype)
        hidden = torch.bmm(rows, picked.mT).unflatten(-1, (kept, rank))  # (B, T, kept, R)
    gated = (hidden * gate.gather(1, chosen)[:, None, :, None]).flatten(-2).to(hidden.dtype)
    picked = up.unflatten(1, (experts, rank)).index_select(1, chosen.flatten())
    picked = picked.reshape(-1, len(rows), kept * rank).to(hidden.dtype)
    return torch.bmm(gated, picked.permute(1, 2, 0)).reshape(*x.shape[:-1], -1)


def merged(x: Tensor, down: Tensor, up: Tensor, gate: Tensor, kept: int = 0) -> Tensor:
    """The matrix that the experts add up to, made once for each row of the gate, then applied.

    Of experts that share A only the halves B are added up, to the B of one plain LoRA.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        kept: of no use here.

    Returns:
        (B, ..., D_out).
    """
    gate, rows = _rows(x, gate)
    if _is_shared(down, up):
        rows = F.linear(rows, down.to(x.dtype))
        experts = up.unflatten(1, (gate.shape[1], -1)).movedim(1, 0)
        matrix = torch.tensordot(gate, experts.to(gate.dtype), 1)
    else:
        matrix = fold(down, up, gate)
    return torch.bmm(rows, matrix.to(rows.dtype).mT).reshape(*x.shape[:-1], -1)


def fold(down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """What the experts add to the frozen matrix: sum over e of g_e B_e A_e.

    Args:
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (..., E), scaled already.

    Returns:
        Matrices (..., D_out, D), in the type of the gate (or of autocast).
    """
    experts = gate.shape[-1]
    weighed = up.unflatten(1, (experts, -1)) * gate[..., None, :, None]  # (..., D_out, E, R)
    if _is_shared(down, up):
        return weighed.sum(-2) @ down.to(weighed.dtype)
    return weighed.flatten(-2) @ down.to(weighed.dtype)


BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = {
    "concatenated": concatenated,
    "gathered": gathered,
    "merged": merged,
}
"""The ways to compute the sum, by name."""


def _is_shared(down: Tensor, up: Tensor) -> bool:
    """Whether all experts have one A (one expert alone has as well, and either way is right for it)."""
    return down.shape[0] != up.shape[1]


def _rows(x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """A gate (G, E) of one row for each group of equal weights, and the inputs of each, (G, T, D)."""
    if gate.dim() == 3:
        gate = gate.expand(*x.shape[:-1], -1).flatten(0, 1)
    return gate, x.reshape(len(gate), -1, x.shape[-1])
