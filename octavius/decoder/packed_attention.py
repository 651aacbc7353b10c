"""Block-diagonal causal attention for packed sequences.

Several texts share one row without padding, and each attends to itself only: SDPA is called once for each text, so no
(N, N) mask is built and the cost stays linear in the number of texts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PACKED = "octavius_packed"
"""The name under which this attention is registered with transformers."""

_recorded: list[set[int]] = []
"""A stack of open `recorded_windows` contexts; the innermost collects the windows."""


@contextmanager
def recorded_windows() -> Iterator[set[int]]:
    """Collects the sliding windows that layers pass to the packed attention within the block."""
    _recorded.append(set())
    try:
        yield _recorded[-1]
    finally:
        _recorded.pop()


def packed_mask(segment_ids: Tensor, real: Tensor) -> Tensor:
    """Packs segment ids and the padding mask into one tensor that reaches `attend` through transformers.

    transformers passes a 4-D attention mask through unchanged, so a (1, 1, 2, N) tensor is used to carry both
    rows; it is not a mask in the usual sense.

    Args:
        segment_ids: (1, N) index of the text that each token belongs to; texts are contiguous.
        real: (1, N) 1 on tokens that others may attend to, 0 on masked ones.
    """
    # On the CPU, because `attend` needs the lengths as Python ints, and reading them from a GPU would sync.
    return torch.stack([segment_ids, real.to(segment_ids.dtype)], 1)[None].cpu()


def positions_in(segment_ids: Tensor) -> Tensor:
    """The position (B, T) of each token within its text; texts are contiguous.

    >>> positions_in(torch.tensor([[4, 4, 4, 2, 2]]))
    tensor([[0, 1, 2, 0, 1]])
    """
    positions = torch.arange(segment_ids.shape[1], device=segment_ids.device).expand_as(segment_ids)
    first = torch.ones_like(segment_ids, dtype=torch.bool)
    first[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    return positions - (positions * first).cummax(1).values


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, note: Tensor, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention within each text, with one call of SDPA per text.

    Args:
        module: the attention layer of transformers.
        query: (1, H, N, d).
        key: (1, H or fewer, N, d).
        value: like `key`.
        note: (1, 1, 2, N), see `packed_mask`.
        options: passed to `sdpa_attention_forward`; a `sliding_window` is applied.

    Returns:
        (1, N, H, d), and None in place of the attention weights.
    """
    lengths = note[0, 0, 0].unique_consecutive(return_counts=True)[1].tolist()
    reals, window = note[0, 0, 1].bool().split(lengths), options.get("sliding_window")
    if _recorded and window is not None:
        _recorded[-1].add(int(window))
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), reals, strict=True)
    done = [
        sdpa_attention_forward(module, q, k, v, _seen(real, window, q.device), **options)[0]
        for q, k, v, real in parts
    ]
    return torch.cat(done, 1), None


def _seen(real: Tensor, window: int | None, device: torch.device) -> Tensor | None:
    """Attention mask (1, 1, T, T) of one text, None where plain causal attention is enough.

    Each token attends to itself even if masked, because a row without any key gives NaN.
    """
    count = len(real)
    if bool(real.all()) and (window is None or count <= window):
        return None
    pairs = (real | torch.eye(count, dtype=torch.bool, device=real.device)).tril()
    pairs = pairs if window is None else pairs.triu(1 - window)
    return pairs[None, None].to(device)


# Not compiled: the text lengths differ in every batch, each of which would trigger a recompilation.
ALL_ATTENTION_FUNCTIONS.register(PACKED, torch.compiler.disable(attend))
