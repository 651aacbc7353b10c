"""Quantisation of the frozen language model while it is loaded, by bitsandbytes."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from transformers import BitsAndBytesConfig

Quantised: TypeAlias = Literal["nf4", "int8"]
"""Types of the weights of linear layers: 4 bits (QLoRA, with doubly quantised scales), or 8 bits (LLM.int8())."""

BYTES: dict[Quantised, float] = {"nf4": (4 + 8 / 64 + 32 / (64 * 256)) / 8, "int8": 1.0}
"""Bytes of a weight: with nf4 each 64 share a scale of 8 bits, and 256 scales one of 32 bits."""


def loading_options(
    kind: Quantised, dtype: torch.dtype, location: str, from_scratch: bool, kept: Sequence[str] = ()
) -> dict[str, Any]:
    """Options of `from_pretrained` by which the linear layers are quantised, all but the output layer.

    Args:
        kind: type of the weights.
        dtype: type in which they are multiplied, and of all other weights.
        location: hub id or path of the model.
        from_scratch: whether its weights are random.
        kept: names of the modules that are not quantised; empty for the output layer.

    Raises:
        ValueError: the model cannot be quantised, or bitsandbytes is missing or does not work on this machine.
    """
    if from_scratch or location.endswith(".gguf"):
        raise ValueError(
            f"quantise: {kind} is for the weights of a hub id or a folder: leave out from_scratch, and take no GGUF "
            "file"
        )
    if missing := [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]:
        raise ValueError(
            f"quantise: {kind} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed: pip install 'octavius[quantise]', or leave quantise out"
        )
    device: str | int = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    try:
        _probe(kind, device, dtype)
    except Exception as error:  # its native library raises almost anything
        raise ValueError(
            f"quantise: {kind} does not work on this machine: the installed bitsandbytes gave "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Leave quantise out, or install a version "
            "for this device"
        ) from None
    settings: dict[str, Any] = {"load_in_8bit": True}
    if kind == "nf4":
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    if kept:
        settings["llm_int8_skip_modules"] = list(kept)  # with 4 bits too, whatever its name says
    return {"quantization_config": BitsAndBytesConfig(**settings), "device_map": {"": device}}


def _probe(kind: Quantised, device: str | int, dtype: torch.dtype) -> None:
    """Multiplies by a small quantised matrix, forward and backward."""
    import bitsandbytes

    if kind == "nf4":
        layer = bitsandbytes.nn.Linear4bit(64, 64, False, dtype, quant_type="nf4")
    else:
        layer = bitsandbytes.nn.Linear8bitLt(64, 64, False, has_fp16_weights=False)
    layer.load_state_dict(nn.Linear(64, 64, False).state_dict())
    x = torch.ones(2, 64, dtype=dtype, device=device, requires_grad=True)
    layer.to(device)(x).sum().backward()
