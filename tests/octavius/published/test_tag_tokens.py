"""Tags as tokens: their ids, their first embeddings, and what is trained then."""

from pathlib import Path

import pytest
import torch

from octavius.decoder.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.prompt import Template
from octavius.lora_moe import LoRAMoEConfig
from octavius.model import Octavius
from octavius.published.tag_tokens import SPARE, train_tag_tokens


def test_a_spare_token_and_the_tags_follow_the_vocabulary(decoder_folder: Path) -> None:
    decoder = Decoder(str(decoder_folder))
    decoder.requires_grad_(False)
    before = decoder.lm.get_input_embeddings().weight.clone()
    known = len(decoder.tokenizer.backend)
    train_tag_tokens(decoder, {"image": PrecomputedFeatures(3, 5)}, Template(tags={"image": ("<a>", "</a>")}))
    backend, table = decoder.tokenizer.backend, decoder.lm.get_input_embeddings().weight
    assert backend.convert_ids_to_tokens(list(range(known, len(backend)))) == [SPARE, "<a>", "</a>"]
    assert torch.equal(table[:known], before[:known])
    torch.testing.assert_close(table[known:].detach(), before[:known].mean(0).expand(3, -1))
    trained = [name for name, part in decoder.lm.named_parameters() if part.requires_grad]
    assert trained == ["model.embed_tokens.weight"]  # the output layer is tied to it


def test_an_output_layer_with_experts_is_refused(decoder_folder: Path) -> None:
    decoder = Decoder(str(decoder_folder))
    Octavius(decoder, {}, LoRAMoEConfig(experts=1, rank=2, targets=["lm_head"]))
    with pytest.raises(ValueError, match="tag_tokens trains the output layer itself"):
        train_tag_tokens(decoder, {}, None)
