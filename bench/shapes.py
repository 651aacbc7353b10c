"""Decoder shapes for the benchmarks, as LLaMA configurations."""

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
"""Sizes by name; `tiny` is for trying the benchmarks out."""

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
"""Names of the layers that get adapters."""


def configuration(shape: str) -> LlamaConfig:
    """Configuration of this shape, without an end token, so that generation runs to the full length."""
    return LlamaConfig(eos_token_id=None, **SHAPES[shape])
