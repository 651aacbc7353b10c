"""Three equivalent ways to compute the weighted sum of LoRA experts, and the cost model that picks one.

    y = sum over e of g_e B_e A_e (x * mask)

E is the number of experts, R their rank. `down` stacks the A of all experts, (E * R, D), or is one A that all share,
(R, D); `up` holds their B side by side, (D_out, E * R). `gate` has weights per sample, (B, E), per token, (B, T, E),
or for all samples, (1, E), with the LoRA scale already multiplied in. `mask` is the dropout mask, true where an input
is kept. All backends return the same values and gradients, in the dtype of x (or of autocast); products with a gate
weight are computed and accumulated in the dtype of the gate. None builds an (E, D) tensor per token.
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
    max_active: int = 0,  # noqa: ARG001
    mask: Tensor | None = None,
) -> Tensor:
    """Computes all experts as one LoRA of rank E * R with the gate weights between A and B.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        max_active: ignored; part of the common signature of backends.
        mask: true where x is not dropped, (B, ..., D).

    Returns:
        (B, ..., D_out).
    """
    a, b = _split(down, up, gate.shape[-1])
    # Weights per sample become (B, 1, E) and broadcast over the tokens.
    weights = gate if gate.dim() == 3 else gate.unsqueeze(1)
    shape = len(x), -1, x.shape[-1]
    mask = None if mask is None else mask.reshape(shape)
    return low_rank(x.reshape(shape), a, b, weights, None, mask).reshape(*x.shape[:-1], -1)


def gathered(
    x: Tensor, down: Tensor, up: Tensor, gate: Tensor, max_active: int, mask: Tensor | None = None
) -> Tensor:
    """Copies the matrices of the experts that each row uses, and computes those alone in batched products.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E), at most `max_active` of a row non-zero. The others get a gradient
            of 0, which loses nothing for top-k gates: these do not backpropagate through the weights they zero.
        max_active: number K of experts that are computed per row, 1..E.
        mask: true where x is not dropped, (B, ..., D).

    Returns:
        (B, ..., D_out).
    """
    a, b = _split(down, up, gate.shape[-1])
    gate, rows, mask = _groups(x, gate, mask)
    # By magnitude, so that negative weights, which callers may set, are not skipped.
    chosen = gate.detach().abs().topk(max_active, dim=-1).indices
    weights = gate.gather(1, chosen).unsqueeze(1)
    return low_rank(rows, a, b, weights, chosen, mask).reshape(*x.shape[:-1], -1)


def merged(
    x: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor,
    max_active: int = 0,  # noqa: ARG001
    mask: Tensor | None = None,
) -> Tensor:
    """Adds the experts up to one (D_out, D) matrix per row of the gate, then applies it.

    Experts that share A are added up in B alone, which gives one plain LoRA per row.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        max_active: ignored; part of the common signature of backends.
        mask: true where x is not dropped, (B, ..., D).

    Returns:
        (B, ..., D_out).
    """
    a, b = _split(down, up, gate.shape[-1])
    gate, rows, mask = _groups(x, gate, mask)
    if len(a) == 1:
        # Treat the mixed B of the G gate rows as G experts of weight 1, of which each row uses its own.
        mixed = torch.einsum("ge,oer->ogr", gate, b.to(gate.dtype))
        chosen = None if len(gate) == 1 else torch.arange(len(gate), device=gate.device).unsqueeze(1)
        y = low_rank(rows, a, mixed, gate.new_ones(1, 1, 1), chosen, mask)
    else:
        matrix = fold(down, up, gate).to(x.dtype)
        y = torch.bmm(rows if mask is None else rows * mask, matrix.mT)
    return y.reshape(*x.shape[:-1], -1)


def fold(down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """Computes the update of the frozen weight: sum over e of g_e B_e A_e.

    Args:
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (..., E) with the LoRA scale multiplied in.

    Returns:
        Matrices (..., D_out, D), in the dtype of the gate (or of autocast).
    """
    a, b = _split(down, up, gate.shape[-1])
    weighed = b * gate[..., None, :, None]  # (..., D_out, E, R)
    # With a shared A the experts add up in B; otherwise the product with the stacked A sums over them.
    weighed = weighed.sum(-2) if len(a) == 1 else weighed.flatten(-2)
    return weighed @ down.to(weighed.dtype)


Backend = Callable[[Tensor, Tensor, Tensor, Tensor, int, Tensor | None], Tensor]

BackendName: TypeAlias = Literal["auto", "concatenated", "gathered", "merged"]
"""A backend, or `auto` for the fastest at the sizes at hand (see `choose`)."""

BACKENDS: dict[str, Backend] = {"concatenated": concatenated, "gathered": gathered, "merged": merged}
"""Backends by name."""


def choose(x: Tensor, down: Tensor, up: Tensor, gate: Tensor, max_active: int) -> str:
    """Returns the name of the fastest backend for these sizes, by a cost model fitted on CPUs.

    Only shapes are read, and the dtype of x (or of autocast). Times are from `bench/routed_layer.py`; see
    docs/benchmarks.md.

    Args:
        x: inputs (B, ..., D).
        down: A of all experts, (E * R, D), or of all together, (R, D).
        up: B of all experts, (D_out, E * R).
        gate: weights (B, E), (B, T, E) or (1, E).
        max_active: upper bound on the experts with non-zero weight in a row.
    """
    # Costs are in multiplications. Memory traffic is expressed in tokens to which one expert could be applied in
    # the same time: reading an expert's matrices in place costs as much as 8 tokens; copying them for one row 80,
    # and 250 in half precision, which multiplies faster while copying does not gain as much.
    experts, rows, width = gate.shape[-1], len(gate), x.shape[-1]
    # With weights per token the other backends would build matrices for every token; of a single expert there is
    # nothing to skip or to add up.
    if gate.dim() == 3 or experts == 1:
        return "concatenated"
    tokens = x.numel() // (rows * width)
    # Shared A: adding up the B of all experts once per row pays from about 300 tokens x experts on (fitted likewise).
    if len(down) < up.shape[1]:
        return "merged" if tokens * experts >= 300 else "concatenated"
    applied = len(down) // experts * (width + len(up))  # multiplications of one expert on one token
    name, least = "concatenated", applied * experts * (rows * tokens + 8)
    gathering = applied * max_active * rows * (tokens + (80 if computing_type(x).itemsize >= 4 else 250))
    if gathering < least:
        name, least = "gathered", gathering
    # Building (D_out, D) matrices, then applying them. Never with autograd, which would save them for backward.
    if not torch.is_grad_enabled() and rows * width * len(up) * (len(down) + tokens) < least:
        name = "merged"
    return name


def _split(down: Tensor, up: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """Views with an axis for experts: A (E, R, D), or (1, R, D) when shared, and B (D_out, E, R)."""
    b = up.unflatten(1, (experts, -1))
    return down.unflatten(0, (-1, b.shape[-1])), b


def _groups(x: Tensor, gate: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Groups inputs by the gate row that they share: gate (G, E), inputs and mask (G, T, D)."""
    if gate.dim() == 3:  # each token is a group of its own, T = 1
        gate = gate.expand(*x.shape[:-1], -1).flatten(0, 1)
    shape = len(gate), -1, x.shape[-1]
    return gate, x.reshape(shape), None if mask is None else mask.reshape(shape)
