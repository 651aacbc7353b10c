"""Finds out what the linear layers of a language model are run on: the tensor layout of their inputs.

Gate weights are per sample, so a layer must know which rows of its input belong to which sample. Most layers
get (B, T, D); some get all tokens in one dimension, and parts of mixture-of-experts models a selection of
tokens in another order. A layer that no text passes through (in the vision part of a larger model) would
never be trained.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from octavius.decoder.check import WORDS
from octavius.decoder.passes import attend_by, logits_at
from octavius.instruction.tokenizer import Tokenizer

Layout: TypeAlias = Literal["samples", "tokens", "head", "other", "none"]
"""Layout of a layer's input.

- samples: (B, T, D)
- tokens: (B * T, D), sample by sample
- head: positions selected for the output layer
- other: anything else
- none: the layer is not run
"""

ROWS, TOKENS = 3, 5

SHARED_ROUNDING = 0.1
"""Bound on the relative change of a sample by another one of the batch with LLM.int8(), whose rounding depends on the
whole batch."""


@torch.no_grad()
def layouts(
    lm: PreTrainedModel, tokenizer: Tokenizer, attention: str, modules: Mapping[str, nn.Module]
) -> dict[str, Layout]:
    """The layout of the inputs of each module, found by two forward passes that differ in one sample only.

    Rows of an input that change between the passes belong to that sample.

    Args:
        lm: the language model without experts; its mode and the random state are unchanged afterwards.
        tokenizer: its tokenizer.
        attention: name of its attention implementation.
        modules: submodules by name.
    """
    words = torch.tensor(tokenizer.encode(WORDS), device=lm.device)
    ids = words.repeat(-(-(ROWS + 1) * TOKENS // len(words)))[: (ROWS + 1) * TOKENS].view(ROWS + 1, TOKENS)
    passes: list[dict[str, list[Tensor]]] = []
    training = lm.training
    try:
        lm.eval()
        attend_by(lm, attention)
        with torch.random.fork_rng(devices=[]):
            for first in (ids[0], ids[ROWS]):
                passes.append(_inputs(lm, torch.cat([first[None], ids[1:ROWS]]), modules))
    finally:
        lm.train(training)
    head = lm.get_output_embeddings()
    limit = SHARED_ROUNDING if getattr(lm, "is_loaded_in_8bit", False) else 0.0
    return {
        name: "head" if module is head else _layout(passes[0].get(name, []), passes[1].get(name, []), limit)
        for name, module in modules.items()
    }


def _inputs(lm: PreTrainedModel, ids: Tensor, modules: Mapping[str, nn.Module]) -> dict[str, list[Tensor]]:
    """The inputs of each module in one forward pass."""
    found: dict[str, list[Tensor]] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.setdefault(name, []).append(inputs[0].detach() if inputs else ids.new_zeros(0))

    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in modules.items()]
    try:
        mask = torch.ones_like(ids)
        logits_at(lm, None, mask.bool(), input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _layout(ones: list[Tensor], others: list[Tensor], limit: float) -> Layout:
    """The layout of a module from its inputs in two passes that differ in the first sample only.

    Args:
        ones: the inputs in the first pass.
        others: those in the second.
        limit: largest relative change of a row that does not count.
    """
    if not ones and not others:
        return "none"
    if len(ones) != len(others):
        return "other"
    found = {_of_pair(one, other, limit) for one, other in zip(ones, others, strict=True)}
    return found.pop() if len(found) == 1 else "other"


def _of_pair(one: Tensor, other: Tensor, limit: float) -> Layout:
    if one.shape != other.shape or one.dim() < 2:
        return "other"
    apart = (one.float() - other.float()).flatten(1).norm(dim=1)
    changed = apart > limit * one.float().flatten(1).norm(dim=1)
    samples = one.dim() == 3 and one.shape[:2] == (ROWS, TOKENS)
    tokens = one.dim() == 2 and len(one) == ROWS * TOKENS
    own = 1 if samples else TOKENS
    if not (samples or tokens) or bool(changed[own:].any()):
        return "other"
    return "samples" if samples else "tokens"
