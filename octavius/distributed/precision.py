"""Fallback to float32 on CPUs without fast bfloat16."""

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

FULL = "32-true"
"""The precision that replaces bf16-mixed."""


def supported_precision(precision: Any, accelerator: Any) -> Any:
    """Returns the requested precision, or float32 if that is bf16-mixed and the CPU lacks bfloat16 instructions.

    Without them (AVX2 only) bfloat16 is emulated: a training step of the joint miniature took 16 s instead of
    0.7 s.

    Args:
        precision: the trainer's precision, such as `bf16-mixed`.
        accelerator: the trainer's accelerator, such as `auto` or `cpu`.
    """
    if precision == "bf16-mixed" and not has_bfloat16(accelerator):
        rank_zero_warn(
            f"trainer.precision is {precision}, and this processor has no instructions for bfloat16 (AVX-512 or "
            f"AMX): a step would take many times as long, so that all is computed in float32 ({FULL}). Scores and "
            "losses differ by rounding from those of other machines"
        )
        return FULL
    return precision


def has_bfloat16(accelerator: Any = "auto") -> bool:
    """Whether bfloat16 is fast: on every accelerator, and on CPUs for which oneDNN has bfloat16 kernels.

    Args:
        accelerator: the trainer's accelerator, or a device type.
    """
    if accelerator != "cpu" and torch.accelerator.is_available():
        return True
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False
