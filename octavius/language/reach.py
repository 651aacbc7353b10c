"""How a language model runs its linear layers: which of them, and how their inputs' rows belong to samples.

The weights of experts are chosen for each sample, so a layer has to be given whole samples. Most are, as (B, T, D);
some are given all tokens in one dimension, and parts of mixtures of experts a selection of tokens in an order of
their own. A layer that no text runs through (in the vision part of a larger model) would never be trained.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from octavius.instruction.tokenizer import Tokenizer
from octavius.language.check import WORDS, embed
from octavius.language.passes import attend_by, logits_at

Layout: TypeAlias = Literal["samples", "tokens", "head", "other", "none"]
"""What a layer is run on: (B, T, D); (B * T, D), sample by sample; positions gathered for the output layer; anything
else; nothing at all."""

ROWS, TOKENS = 3, 5


@torch.no_grad()
def layouts(
    lm: PreTrainedModel, tokenizer: Tokenizer, attention: str, modules: Mapping[str, nn.Module]
) -> dict[str, Layout]:
    """What each of these modules is run on, seen in two passes over a few tokens of which one sample differs.

    Args:
        lm: the language model, without experts; its mode and random numbers stay as they are.
        tokenizer: its tokenizer.
        attention: the name of its attention.
        modules: parts of it by name.
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
    return {
        name: "head" if module is head else _layout(passes[0].get(name, []), passes[1].get(name, []))
        for name, module in modules.items()
    }


def _inputs(lm: PreTrainedModel, ids: Tensor, modules: Mapping[str, nn.Module]) -> dict[str, list[Tensor]]:
    """The inputs that each module gets in one pass."""
    found: dict[str, list[Tensor]] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.setdefault(name, []).append(inputs[0].detach() if inputs else ids.new_zeros(0))

    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in modules.items()]
    try:
        mask = torch.ones_like(ids)
        logits_at(lm, embed(lm, ids), mask.bool(), attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _layout(ones: list[Tensor], others: list[Tensor]) -> Layout:
    """What inputs of two passes, which differ in the first sample alone, are made of."""
    if not ones and not others:
        return "none"
    if len(ones) != len(others):
        return "other"
    found = {_of_pair(one, other) for one, other in zip(ones, others, strict=True)}
    return found.pop() if len(found) == 1 else "other"


def _of_pair(one: Tensor, other: Tensor) -> Layout:
    if one.shape != other.shape or one.dim() < 2:
        return "other"
    changed = (one != other).flatten(1).any(1) if one.dim() > 2 else (one != other).any(1)
    samples = one.dim() == 3 and one.shape[:2] == (ROWS, TOKENS)
    tokens = one.dim() == 2 and len(one) == ROWS * TOKENS
    own = 1 if samples else TOKENS
    if not (samples or tokens) or bool(changed[own:].any()):
        return "other"
    return "samples" if samples else "tokens"
