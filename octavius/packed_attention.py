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
"""The name of this attention among those of transformers."""

_recorded: list[set[int]] = []
"""Where the sliding windows of the layers are noted, while `recorded_windows` is entered."""


@contextmanager
def recorded_windows() -> Iterator[set[int]]:
    """Collects the sliding windows that layers hand to the packed attention within the block."""
    _recorded.append(set())
    try:
        yield _recorded[-1]
    finally:
        _recorded.pop()


def note_of(segments: Tensor, real: Tensor) -> Tensor:
    """What `attend` has to know, (1, 1, 2, N): transformers hands a mask of four dimensions on as it is.

    Args:
        segments: the text of each token, (1, N), each in one piece.
        real: 1 on tokens that others may see, (1, N).
    """
    return torch.stack([segments, real.to(segments.dtype)], 1)[None].cpu()  # where reading it need not wait


def positions_in(segments: Tensor) -> Tensor:
    """The place (B, T) of each token within its text, of which each lies in one piece.

    >>> positions_in(torch.tensor([[4, 4, 4, 2, 2]]))
    tensor([[0, 1, 2, 0, 1]])
    """
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    first = torch.ones_like(segments, dtype=torch.bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return places - (places * first).cummax(1).values


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, note: Tensor, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention text by text, so that no place of any mask or matrix is empty.

    Args:
        module: the attention layer of transformers.
        query: (1, H, N, d).
        key: (1, H or fewer, N, d).
        value: likewise.
        note: by `note_of`.
        options: of `sdpa_attention_forward`; a `sliding_window` is kept to.

    Returns:
        (1, N, H, d), and no weights.
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
    """Which tokens of a text see which, (1, 1, T, T), each itself; None where that is all that came before."""
    count = len(real)
    if bool(real.all()) and (window is None or count <= window):
        return None
    pairs = (real | torch.eye(count, dtype=torch.bool, device=real.device)).tril()
    pairs = pairs if window is None else pairs.triu(1 - window)
    return pairs[None, None].to(device)


# Compiled, it would be compiled again for every batch, whose texts have other lengths.
ALL_ATTENTION_FUNCTIONS.register(PACKED, torch.compiler.disable(attend))
