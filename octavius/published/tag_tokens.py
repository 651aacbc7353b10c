"""Tags around media as tokens of the vocabulary, for which the published code trains all word embeddings."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import nn
from transformers import AddedToken

from octavius.decoder.decoder import Decoder
from octavius.encoders.base import Encoder, tags_of
from octavius.instruction.prompt import Template
from octavius.instruction.tokenizer import Tokenizer
from octavius.lora_moe.layer import LoRAMoELinear

SPARE = "<XSFQ/>"
"""An unused token. The published code adds it before the tags, so the ids of the tags depend on it."""


def train_tag_tokens(
    decoder: Decoder, encoders: Mapping[str, Encoder], template: Template | Literal["chat"] | None
) -> None:
    """Adds the tags around media to the vocabulary, and trains all word embeddings and the output layer.

    Args:
        decoder: the language model, already frozen and with its experts.
        encoders: modality to encoder.
        template: the template of the prompts, whose tags precede those of the encoders.

    Raises:
        ValueError: the output layer has experts, or the decoder writes no tags.
    """
    if not decoder.takes_vectors:
        raise ValueError(
            f"the prompts of {decoder.name!r} have no tags around media: set tag_tokens to false"
        )
    if isinstance(decoder.lm.get_output_embeddings(), LoRAMoELinear):
        raise ValueError(
            "tag_tokens trains the output layer itself, so that it cannot have experts too: leave it out of "
            "lora.targets, or set tag_tokens to false"
        )
    template_tags = template.tags if isinstance(template, Template) else Template().tags
    known = {**tags_of(encoders), **template_tags}
    tags = (tag for modality in encoders for tag in known.get(modality, ()))
    _add_tokens(decoder, [SPARE, *dict.fromkeys(tags)])


def _add_tokens(decoder: Decoder, tokens: Sequence[str]) -> None:
    """Adds tokens to the vocabulary and unfreezes all word embeddings and the output layer.

    New rows are initialised with the mean of the others; tokens that the tokenizer already has stay as they are.

    Args:
        decoder: the language model.
        tokens: the new tokens, in the order of their ids.
    """
    backend, known = decoder.tokenizer.backend, len(decoder.tokenizer.backend)
    backend.add_tokens([AddedToken(word, special=True, normalized=False) for word in tokens])
    decoder.tokenizer = Tokenizer(backend)
    decoder.lm.resize_token_embeddings(len(backend), mean_resizing=False)
    tables = [decoder.lm.get_input_embeddings(), decoder.lm.get_output_embeddings()]
    for table in tables:
        weight = cast(nn.Parameter, table.weight)
        weight.requires_grad_(True)
        with torch.no_grad():
            weight[known:] = weight[:known].float().mean(0).to(weight.dtype)
