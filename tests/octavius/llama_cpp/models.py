"""Tiny modules with experts that do much, for exports to llama.cpp."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from octavius.decoder.decoder import Decoder
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe
from tests.tiny import SHIPPED

ROUTINGS = ((0.926, 0.074, 0.0, 0.0), (0.29, 0.71, 0.0, 0.0), (0.4, 0.3, 0.2, 0.1), (0.0, 0.0, 1.0, 0.0))
CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}


def write_language(folder: Path, kind: str = "llama", **options: Any) -> Path:
    """A language model of an architecture with grouped queries, random weights, and the shipped tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "language")
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    # The GGUF reader of transformers takes the width of a head to be 128 in Qwen3.
    shape |= {"mistral": {"sliding_window": None}, "qwen3": {"head_dim": 128}}.get(kind, {})
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](**{**shape, **options}))
    for name, parameter in model.named_parameters():
        if (
            name.endswith("bias") or "norm" in name
        ):  # which start at 0 and 1 and would hide what is lost of them
            nn.init.normal_(parameter, 1.0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tuned(language: Path | str, experts: int = 4, dtype: Any = "float32", **options: Any) -> OctaviusModule:
    """A module without encoders, whose experts and gate have random weights."""
    torch.manual_seed(1)
    settings = {"rank": 3, "alpha": 7.0, "dropout": 0.0, **options}
    module = OctaviusModule(
        Decoder(str(language), dtype), {}, lora_moe(experts=experts, **settings), template=None
    )
    for name, parameter in module.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.1)
    return module.eval()


@torch.no_grad()
def logits(module: OctaviusModule, ids: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Logits (B, T, V) of the language model under fixed weights of the experts."""
    with module.model.routing.use(torch.tensor([weights])):
        found: Tensor = module.model.decoder.lm(ids).logits
    return found
