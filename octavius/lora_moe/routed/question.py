"""Locates the question in a batch, for models called by trainers that know nothing of gates.

The question is the part of a prompt that a gate reads. Callers that know it pass its tokens. Otherwise it is the
tokens before the first labelled one, since labels of prompts are -100 by convention. Tokens from the first answer
token on are never read, so a gate does not see what the model has to predict.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""Label of tokens without a loss, the `ignore_index` of PyTorch's cross-entropy."""


class Question(NamedTuple):
    """Token ids of questions, (B, Q), and true at real tokens, (B, Q)."""

    ids: Tensor
    mask: Tensor


def given(ids: Tensor, mask: Tensor | None, pad: int | None, rows: int | None) -> Question:
    """Checks questions that the caller passed.

    Args:
        ids: token ids, (B, Q), or (Q,) for a single question.
        mask: 1 at real tokens, of the same shape; None treats all but pad tokens as real.
        pad: the pad token id, if there is one.
        rows: number of samples in the batch; None if unknown.

    Raises:
        ValueError: there is neither one question for all samples nor one for each.
    """
    if ids.dim() == 1:
        ids, mask = ids[None], None if mask is None else mask[None]
    if rows is not None and len(ids) not in (1, rows):
        raise ValueError(
            f"question_ids holds {len(ids)} questions for a batch of {rows} samples: expected one for each sample, "
            "or a single one for all"
        )
    return Question(ids, real_tokens(ids, mask, pad))


def of_prompt(inputs: Mapping[str, Any], pad: int | None) -> Question:
    """Takes the prompts of a batch as its questions.

    With `labels` the prompt of a row is everything before the first token whose label is not -100; without labels it
    is the whole row. Padding on either side is excluded by `attention_mask`.

    Args:
        inputs: arguments of the model's call, by name.
        pad: the pad token id, for batches without an attention mask.

    Raises:
        ValueError: there are no token ids, shapes do not match, a row has no prompt, or rows are packed with several
            sequences.
    """
    ids, labels, mask = (inputs.get(name) for name in ("input_ids", "labels", "attention_mask"))
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        raise ValueError(
            "the gate reads the tokens of the question, but the model was called without input_ids (samples, "
            "tokens): pass question_ids, and question_mask where they are padded"
        )
    if isinstance(mask, Tensor) and mask.shape != ids.shape:
        raise ValueError(
            f"the question cannot be told from an attention_mask {tuple(mask.shape)} of input_ids "
            f"{tuple(ids.shape)}; pass question_ids"
        )
    real = real_tokens(ids, mask if isinstance(mask, Tensor) else None, pad)
    _refuse_packed(inputs, real)
    if labels is None:
        return Question(ids, real)
    labels = _of_all_tokens(labels, ids, inputs.get("logits_to_keep"))
    if labels.shape != ids.shape:
        raise ValueError(
            f"the question cannot be told from labels {tuple(labels.shape)} of input_ids {tuple(ids.shape)}: "
            "expected a label for each token; pass question_ids"
        )
    # The running count of labelled tokens is 0 up to the first one.
    prompt = real & ((labels != IGNORED).cumsum(1) == 0)
    if not bool(prompt.any(1).all()):
        rows = (~prompt.any(1)).nonzero().flatten().tolist()
        raise ValueError(
            f"the gate reads the prompt, whose labels are {IGNORED}, but in the rows {rows} of the batch labels "
            "begin with the first token. Train on the answers alone (in TRL by data of prompt and completion, or "
            "assistant_only_loss), or pass question_ids"
        )
    return Question(ids, prompt)


def real_tokens(ids: Tensor, mask: Tensor | None, pad: int | None) -> Tensor:
    """True at tokens that are not padding, (B, T): by the mask, else by the pad token id if there is one."""
    if mask is not None:
        return mask.bool()
    return torch.ones_like(ids, dtype=torch.bool) if pad is None else ids != pad


def _of_all_tokens(labels: Tensor, ids: Tensor, keep: int | Tensor | None) -> Tensor:
    """Restores labels (B, T) that a trainer has cut to the positions in `logits_to_keep`."""
    if labels.shape == ids.shape or keep is None:
        return labels
    positions = torch.arange(ids.shape[1], device=ids.device)
    positions = positions[-keep:] if isinstance(keep, int) else positions[keep]
    if labels.shape != (len(ids), len(positions)):
        return labels
    found = torch.full_like(ids, IGNORED).index_copy(1, positions, labels)
    if isinstance(keep, Tensor):
        # Selected logits predict the next tokens, which are thus answers: 0 stands for any label.
        found[:, (positions + 1).clamp(max=ids.shape[1] - 1)] = 0
    return found


def _refuse_packed(inputs: Mapping[str, Any], real: Tensor) -> None:
    """Refuses packed rows: several sequences have several questions, but a row has one set of gate weights."""
    positions = inputs.get("position_ids")
    packed = inputs.get("cu_seq_lens_q") is not None
    if not packed and isinstance(positions, Tensor) and positions.shape == real.shape:
        # Within a sequence positions only increase.
        restarts = positions[:, 1:] <= positions[:, :-1]
        packed = bool((restarts & real[:, 1:] & real[:, :-1]).any())
    if packed:
        raise ValueError(
            "rows of this batch hold several sequences each (their positions begin anew), so that there is no one "
            "question for a row: turn packing and padding-free batches off, or set the weights of each token by "
            "`model.routing.use(weights)`, (samples, tokens, experts)"
        )
