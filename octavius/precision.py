"""A trainer's precision comes in, one that the device computes fast goes out."""

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

FULL = "32-true"
"""What is taken instead of bfloat16."""


def affordable(precision: Any, accelerator: Any) -> Any:
    """The precision that was asked for; float32 where that is bfloat16 and has no instructions of its own.

    Without them (a processor with AVX2 alone) a training step of the joint miniature took 16 s instead of 0.7 s.

    Args:
        precision: of the trainer, such as `bf16-mixed`.
        accelerator: of the trainer, such as `auto` or `cpu`.
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
    """Whether bfloat16 is fast: on anything but a CPU, and on a CPU for which oneDNN has products of it.

    Args:
        accelerator: of the trainer, or a type of device.
    """
    if accelerator != "cpu" and torch.accelerator.is_available():
        return True
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False
