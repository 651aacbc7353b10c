"""Tiny vision-language models of several families, at random, each in a folder with its own kind of processor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints" / "miniature" / "language"
WIDTH, SIDE = 32, 28

USER = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
CONTENT = (
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ IMAGE }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
)
CHATML = (
    USER
    + CONTENT
    + "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The form of Qwen, InternVL and OneVision; `IMAGE` is what each writes for an image."""

SMOL = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% set role = message['role'] %}"
    "{{ '<start_of_turn>' + ('model' if role == 'assistant' else role) + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def tokenizer_of(named: dict[str, str], others: tuple[str, ...] = (), **options: Any) -> Any:
    """The miniature's tokenizer with the special tokens of a family."""
    backend = AutoTokenizer.from_pretrained(SHIPPED, extra_special_tokens=named, **options)
    backend.add_special_tokens(
        {"additional_special_tokens": list(others)}, replace_extra_special_tokens=False
    )
    return backend


def language(backend: Any, **options: Any) -> dict[str, Any]:
    """The shape of a language part of two layers."""
    return {
        "vocab_size": len(backend),
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": backend.pad_token_id,
        "bos_token_id": backend.bos_token_id,
        "eos_token_id": backend.eos_token_id,
        "initializer_range": 0.2,
        **options,
    }


VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 7,
    "initializer_range": 0.2,
}
"""A tower of more layers than the language part, whose layers have the same names."""


def smolvlm(two: bool = False) -> tuple[Any, Any]:
    """SmolVLM: an image is split into tiles by its shape; 1 is of the class Idefics3, 2 of its own."""
    tiles = {f"row_{row}_col_{column}": f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)}
    named = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    named |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    backend = tokenizer_of(named, ("<|im_start|>", *tiles.values()), eos_token="<end_of_utterance>")
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    kinds = (
        (SmolVLMConfig, SmolVLMForConditionalGeneration)
        if two
        else (Idefics3Config, Idefics3ForConditionalGeneration)
    )
    config = kinds[0](
        text_config=LlamaConfig(**language(backend)).to_dict(),
        vision_config=VISION,
        image_token_id=backend.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=backend.pad_token_id,
        tie_word_embeddings=True,
    )
    if two:
        video = SmolVLMVideoProcessor(**sizes, do_image_splitting=False)
        return kinds[1](config), SmolVLMProcessor(
            SmolVLMImageProcessor(**sizes), backend, video, image_seq_len=4, chat_template=SMOL
        )
    return kinds[1](config), Idefics3Processor(
        Idefics3ImageProcessor(**sizes), backend, image_seq_len=4, chat_template=SMOL
    )


def llava() -> tuple[Any, Any]:
    """LLaVA-1.5: CLIP without its class token, a fixed number of image tokens, answers ended by the eos token."""
    backend = tokenizer_of({"image_token": "<image>"})
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION).to_dict() | {"model_type": "clip_vision_model"},
        text_config=LlamaConfig(**language(backend)).to_dict(),
        image_token_index=backend.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return LlavaForConditionalGeneration(config), LlavaProcessor(
        pictures,
        backend,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA,
    )


def onevision() -> tuple[Any, Any]:
    """LLaVA-OneVision: tiles of a grid that fits the image, and a vector at the end of each row."""
    backend = tokenizer_of(
        {"image_token": "<image>", "video_token": "<video>"}, ("<|im_start|>", "<|im_end|>")
    )
    grid = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION).to_dict() | {"vision_use_head": False},
        text_config=Qwen2Config(**language(backend)).to_dict(),
        image_token_index=backend.convert_tokens_to_ids("<image>"),
        video_token_index=backend.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return LlavaOnevisionForConditionalGeneration(config), LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grid),
        backend,
        LlavaOnevisionVideoProcessor(size={"height": SIDE, "width": SIDE}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHATML.replace("IMAGE", r"'<image>\n'"),
    )


def qwen(third: bool = False) -> tuple[Any, Any]:
    """Qwen2.5-VL and Qwen3-VL: images of any size, 3-D positions; in 3, features for several layers."""
    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    named |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    backend = tokenizer_of(named, ("<|im_start|>", "<|im_end|>"), eos_token="<|im_end|>")
    ids = {f"{key}_id": backend.convert_tokens_to_ids(word) for key, word in named.items()}
    vision: dict[str, Any] = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "depth": 3,
        "num_heads": 2,
        "patch_size": 7,
    }
    vision |= {
        "spatial_merge_size": 2,
        "out_hidden_size": WIDTH,
        "temporal_patch_size": 2,
        "initializer_range": 0.2,
    }
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    image = r"'<|vision_start|><|image_pad|><|vision_end|>'"
    pictures = Qwen2VLImageProcessor(
        patch_size=7, merge_size=2, size={"shortest_edge": 28 * 28, "longest_edge": 84 * 84}
    )
    video = {"patch_size": 7, "merge_size": 2}
    if third:
        vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
        config: Any = Qwen3VLConfig(
            text_config=language(backend, rope_parameters=rope), vision_config=vision, **ids
        )
        return Qwen3VLForConditionalGeneration(config), Qwen3VLProcessor(
            pictures, backend, Qwen3VLVideoProcessor(**video), chat_template=CHATML.replace("IMAGE", image)
        )
    vision |= {"window_size": 28, "fullatt_block_indexes": [1]}
    text = language(backend, rope_parameters=rope)
    text.pop("head_dim")
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(
        pictures, backend, Qwen2VLVideoProcessor(**video), chat_template=CHATML.replace("IMAGE", image)
    )


def internvl() -> tuple[Any, Any]:
    """InternVL: up to four tiles and a thumbnail, with tokens around the image."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
    }
    named |= {"video_token": "<video>"}
    backend = tokenizer_of(named, ("<|im_start|>", "<|im_end|>"), eos_token="<|im_end|>")
    config = InternVLConfig(
        vision_config={**VISION, "image_size": [SIDE, SIDE], "patch_size": [7, 7]},
        text_config=Qwen2Config(**language(backend)).to_dict(),
        image_token_id=backend.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    sizes = {"size": {"height": SIDE, "width": SIDE}}
    pictures = GotOcr2ImageProcessor(**sizes, crop_to_patches=True, min_patches=1, max_patches=4)
    return InternVLForConditionalGeneration(config), InternVLProcessor(
        pictures,
        backend,
        InternVLVideoProcessor(**sizes),
        image_seq_length=4,
        chat_template=CHATML.replace("IMAGE", r"'<IMG_CONTEXT>\n'"),
    )


def gemma3() -> tuple[Any, Any]:
    """Gemma 3: attention in both directions over an image, sliding windows, two tokens that end an answer."""
    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    backend = tokenizer_of(named, ("<start_of_turn>", "<end_of_turn>"))
    text = language(backend, sliding_window=8, query_pre_attn_scalar=8)
    text["layer_types"] = ["sliding_attention", "full_attention"]
    config = Gemma3Config(
        text_config=text,
        vision_config={**VISION, "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=backend.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=backend.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=backend.convert_tokens_to_ids("<image_soft_token>"),
        initializer_range=0.2,
    )
    return Gemma3ForConditionalGeneration(config), Gemma3Processor(
        Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
        backend,
        chat_template=GEMMA,
        image_seq_length=4,
    )


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "smolvlm": smolvlm,
    "smolvlm2": lambda: smolvlm(two=True),
    "llava": llava,
    "onevision": onevision,
    "qwen2_5_vl": qwen,
    "qwen3_vl": lambda: qwen(third=True),
    "internvl": internvl,
    "gemma3": gemma3,
}


def write(family: str, folder: Path) -> Path:
    """Writes a tiny model of a family with its processor."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
