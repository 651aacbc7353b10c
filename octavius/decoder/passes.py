"""Forward passes of a causal language model on embeddings, with logits at chosen positions only.

The logits come from the model's own forward method, because some models scale or cap them, add a bias, or
transform the hidden states once more. A pre-hook on the output layer reduces its input to the wanted
positions, so that logits over the vocabulary are computed for no others.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import copy
from typing import Any, TypeAlias

import torch
from torch import Tensor, distributed, nn
from transformers import PreTrainedModel

from octavius.decoder.packed_attention import packed_mask, positions_in

Around = Callable[[], AbstractContextManager[None]]
"""Makes the context in which the output layer runs on the selected positions."""

Positions: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Positions in a batch: a boolean mask (B, T), or row and column indices."""


def attend_by(lm: PreTrainedModel, kind: str) -> None:
    """Sets the attention implementation. It stays set, since checkpointed layers run again in the backward pass."""
    lm.config._attn_implementation = kind


def packed_options(segment_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """Attention mask and position ids of several texts in one row, (1, N), for the attention `PACKED`."""
    return {
        "attention_mask": packed_mask(segment_ids, attention_mask),
        "position_ids": positions_in(segment_ids),
    }


def logits_at(
    lm: PreTrainedModel,
    embeddings: Tensor | None,
    wanted: Positions,
    around: Around = nullcontext,
    **options: Any,
) -> tuple[Tensor, Any]:
    """Logits at the wanted positions, from the model's own forward method.

    Args:
        lm: the model, with its attention implementation set.
        embeddings: (B, T, D); None for a model that is run on `input_ids` (B, T), given with the options.
        wanted: (B, T) true where logits are wanted, or row and column indices of these positions; M of them.
        around: makes the context in which the output layer runs.
        options: arguments of the forward method, including `attention_mask`.

    Returns:
        Logits (M, V) in row-major order, and the cache, if there is one.

    Raises:
        ValueError: the model does not return one row of logits for each position.
    """
    if embeddings is not None:
        options["inputs_embeds"] = embeddings
    size, count = (options["input_ids"] if embeddings is None else embeddings).shape[:2], None
    with ExitStack() as hooks:
        contexts = hooks.enter_context(ExitStack())

        def cut(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            nonlocal count
            hidden = inputs[0]
            if hidden.shape[:2] != size:
                raise ValueError(
                    f"the output layer of {type(lm).__name__} is run on {tuple(hidden.shape)}, expected hidden "
                    f"states of {size[0]} rows of {size[1]} tokens"
                )
            contexts.enter_context(around())
            picked = hidden[wanted][None]
            count = picked.shape[1]
            return (picked, *inputs[1:])

        def leave(*_: Any) -> None:
            contexts.close()

        head = lm.get_output_embeddings()
        if head is not None:
            hooks.callback(head.register_forward_pre_hook(cut).remove)
            hooks.callback(head.register_forward_hook(leave).remove)
        out = lm(**options)
    logits: Tensor = out.logits
    cache = getattr(out, "past_key_values", None)
    if count is not None and logits.shape[:2] == (1, count):
        return logits[0], cache
    if count is None and logits.shape[:2] == size:
        return logits[
            wanted
        ], cache  # the output layer is not a module or not called, so the hook did not run
    raise ValueError(
        f"{type(lm).__name__} gives logits of the shape {tuple(logits.shape)}, expected one row for each of "
        f"{size[0]} x {size[1]} tokens"
    )


def cached_options(lm: PreTrainedModel, attention_mask: Tensor, tokens: int, cache: Any) -> dict[str, Any]:
    """Options of a forward pass over the last `tokens` of left-padded rows that continues from a cache.

    Args:
        lm: the model.
        attention_mask: (B, cached + tokens).
        tokens: number of new tokens.
        cache: the cache of the previous tokens; None starts one.
    """
    options: dict[str, Any] = {
        "attention_mask": attention_mask,
        "past_key_values": cache,
        "use_cache": True,
    }
    if takes(lm, "position_ids"):
        options["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens:]
    return options


def takes(lm: PreTrainedModel, name: str) -> bool:
    """Whether the forward method has an argument of this name."""
    return any(name in inspect.signature(part.forward).parameters for part in (lm, lm.base_model))


def rows_of(cache: Any, rows: Tensor) -> Any:
    """A new cache with selected rows of another one, which is unchanged.

    Recurrent and convolutional states are in dicts, which a shallow copy of a layer would share.
    """
    found = copy(cache)
    found.layers = [_copied(layer) for layer in cache.layers]
    # Selects rows, with repetition; unlike batch_select_indices, every layer implements it.
    found.reorder_cache(rows)
    return found


def _copied(layer: Any) -> Any:
    new = copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict | list):
            setattr(new, name, copy(value))
    return new


def without_padding(embeddings: Tensor, attention_mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Rows and masks of a left-padded batch without the padding, each of its own length."""
    starts = [int(row.argmax()) for row in attention_mask]
    return (
        [row[start:] for row, start in zip(embeddings, starts, strict=True)],
        [row[start:] for row, start in zip(attention_mask, starts, strict=True)],
    )


def log_likelihoods(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities (M,) of token ids (M,) under logits (M, V), in float32."""
    return logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def most_of_all(count: int, device: torch.device) -> int:
    """The maximum of a count over all ranks (collective if there are several)."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    most = torch.tensor(count, device=device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return int(most)
