"""A tiny language model on disk and a tiny Octavius around it, for every test that needs a whole model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from octavius.decoder.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.sample import Media, References, Sample
from octavius.instruction.tokenizer import Tokenizer, load_tokenizer
from octavius.model import Octavius
from tests.octavius.settings import lora_moe

TOKENIZER = Path(__file__).resolve().parents[2] / "checkpoints" / "miniature" / "language"
SLOTS, WIDTH = 3, 5


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The tokenizer of the miniature's language model."""
    return load_tokenizer(TOKENIZER)


@pytest.fixture(scope="session")
def decoder_folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA of two layers and width 32 as a Hugging Face folder; large weights decide its choices."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer.backend),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("decoder")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.backend.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def make_model(decoder_folder: Path) -> Callable[..., Octavius]:
    """Makes the same tiny model at each call: encoders `image` and `sound`, and experts that do something."""

    def make(
        experts: int | list[int] | None = 3,
        dropout: float = 0.0,
        noise: float = 0.0,
        rank: int = 2,
        **lora_options: Any,
    ) -> Octavius:
        torch.manual_seed(0)
        encoders = {name: PrecomputedFeatures(SLOTS, WIDTH, noise) for name in ("image", "sound")}
        settings = {"experts": experts, "rank": rank, "alpha": 4.0, "dropout": dropout, **lora_options}
        lora = None if experts is None else lora_moe(**settings)
        model = Octavius(Decoder(str(decoder_folder)), encoders, lora)
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                nn.init.normal_(parameter, std=0.5)
        return model.train()

    return make


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """Makes a sample with an array of features for each modality that is named."""

    def make(name: str = "s", *modalities: str, **changes: Any) -> Sample:
        generator = np.random.default_rng([*name.encode()])
        media = {
            modality: Media(array=generator.normal(size=(SLOTS, WIDTH)).astype(np.float32))
            for modality in modalities
        }
        facts = {"task": "captioning", "benchmark": "b", "question": "", "gold": References(("a cat",))}
        return Sample(id=name, media=media, **{**facts, **changes})

    return make


@pytest.fixture(scope="session")
def write() -> Callable[..., Batch]:
    """Writes a batch of (sample, question, answer or None)."""

    def batch(processor: Processor, *rows: tuple[Sample, str, str | None]) -> Batch:
        return processor.collate([processor.build_example(*row) for row in rows])

    return batch
