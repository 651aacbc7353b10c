"""Architectures of common language models, so that they can be planned without network access."""

from copy import deepcopy
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from octavius.decoder.loading import locate
from octavius.suggestions import nearest

LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
LLAMA_13B = LLAMA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
LLAMA_3_8B = LLAMA_7B | {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
QWEN_2_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
QWEN_3_8B = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
QWEN_3_VL_2B_TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
QWEN_3_VL_2B_VISION = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "patch_size": 16,
    "out_hidden_size": 2048,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
}
QWEN_3_VL_2B = {
    "model_type": "qwen3_vl",
    "text_config": QWEN_3_VL_2B_TEXT,
    "vision_config": QWEN_3_VL_2B_VISION,
    "tie_word_embeddings": True,
}
QWEN_3_VL_8B = {
    "model_type": "qwen3_vl",
    "text_config": QWEN_3_VL_2B_TEXT
    | {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
    "vision_config": QWEN_3_VL_2B_VISION
    | {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "out_hidden_size": 4096,
        "deepstack_visual_indexes": [8, 16, 24],
    },
    "tie_word_embeddings": False,
}
SMOLLM2_135M = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vicuna-7b-v0": LLAMA_7B | {"vocab_size": 32001},
    "vicuna-13b-v0": LLAMA_13B | {"vocab_size": 32001},
    "lmsys/vicuna-7b-v1.5": LLAMA_7B,
    "lmsys/vicuna-13b-v1.5": LLAMA_13B,
    "meta-llama/Llama-2-7b-hf": LLAMA_7B,
    "meta-llama/Llama-2-13b-hf": LLAMA_13B,
    "meta-llama/Meta-Llama-3-8B-Instruct": LLAMA_3_8B,
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA_3_8B,
    "Qwen/Qwen2.5-7B-Instruct": QWEN_2_7B,
    "Qwen/Qwen3-8B": QWEN_3_8B,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2_135M,
    "Qwen/Qwen3-VL-2B-Instruct": QWEN_3_VL_2B,
    "Qwen/Qwen3-VL-8B-Instruct": QWEN_3_VL_8B,
}
"""Configurations of published models, by hub id."""

QWEN_3_VL_IMAGES: dict[str, Any] = {
    "patch_size": 16,
    "merge_size": 2,
    "size": {"shortest_edge": 2**16, "longest_edge": 2**24},
}
IMAGE_PROCESSORS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-VL-2B-Instruct": QWEN_3_VL_IMAGES,
    "Qwen/Qwen3-VL-8B-Instruct": QWEN_3_VL_IMAGES,
}
"""Settings of the image processor of vision-language models, by hub id; the sizes are numbers of pixels."""


def architecture(name: str) -> PretrainedConfig:
    """The configuration of the language model that a decoder of this name would load.

    Args:
        name: as in `Decoder`: a folder or a GGUF file here or under `checkpoints/`, a name in
            `ARCHITECTURES`, or any other hub id, which needs network access or a filled cache.

    Raises:
        ValueError: no configuration can be found.
    """
    try:
        location = locate(name)
        if isinstance(location, str) and name in ARCHITECTURES:
            fields = deepcopy(ARCHITECTURES[name])
            return AutoConfig.for_model(fields.pop("model_type"), **fields)
        if isinstance(location, str) or location.suffix != ".gguf":
            return AutoConfig.from_pretrained(str(location))
        return AutoConfig.from_pretrained(str(location.parent), gguf_file=location.name)
    except Exception as error:  # transformers raises almost anything on bad names and files
        raise ValueError(
            f"the shape of {name!r} is not known{nearest(name, ARCHITECTURES)}: expected a folder with a "
            "config.json, a hub id (with a network or a filled cache), or one of "
            f"{', '.join(ARCHITECTURES)}. The loader said: {error}"
        ) from None
