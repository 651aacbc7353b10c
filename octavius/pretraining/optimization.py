"""What the pre-trainings share: weight decay of matrices only, a learning-rate schedule, and attention on CPUs."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import LambdaLR


def decay_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: matrices with its weight decay, vectors and scalars without any."""
    trained = [part for part in parameters if part.requires_grad]
    return [
        {"params": [part for part in trained if part.ndim > 1]},
        {"params": [part for part in trained if part.ndim <= 1], "weight_decay": 0.0},
    ]


def trapezoid(
    optimizer: torch.optim.Optimizer, steps: float, warmup: float, decay: float
) -> OptimizerLRScheduler:
    """Linear warm-up, constant learning rate, and cosine decay to zero; what `configure_optimizers` returns.

    Args:
        optimizer: the optimizer, with the peak learning rate.
        steps: number of optimizer steps of the whole training.
        warmup: fraction of the steps for the warm-up.
        decay: fraction of the steps, at the end, for the decay.
    """

    def factor(step: int) -> float:
        left = min(max((steps - step) / max(decay * steps, 1), 0), 1)
        return min((step + 1) / max(warmup * steps, 1), (1 - math.cos(math.pi * left)) / 2)

    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "train/lr"},
    }


def fast_attention(device: torch.device) -> AbstractContextManager[None]:
    """Context manager in which CPUs run attention unfused: fused, its bfloat16 backward takes half of a step."""
    unfused = [SDPBackend.MATH]
    return sdpa_kernel(unfused if device.type == "cpu" else list(SDPBackend.__members__.values()))
