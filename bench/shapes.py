"""The name of a decoder's shape comes in, its LLaMA configuration goes out."""

from transformers import LlamaConfig

SHAPES: dict[str, dict[str, int]] = {
    "llama-7b-layer": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "num_hidden_layers": 1,
        "vocab_size": 32000,
    },
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 30,
        "vocab_size": 49152,
    },
    "miniature": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 6,
        "vocab_size": 2176,
    },
    "tiny": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": 64,
    },
}
"""Decoders by name; the last one is to try the programs."""

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
"""The layers that get adapters."""


def configuration(shape: str) -> LlamaConfig:
    """A decoder of this shape, in which no word ends a text."""
    return LlamaConfig(eos_token_id=None, **SHAPES[shape])
