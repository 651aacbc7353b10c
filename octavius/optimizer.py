"""The optimizer and the schedule of its learning rate."""

from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from octavius.lora_moe.gates.base import Gate


def adamw(
    module: nn.Module,
    gate: Gate | None,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    warmup: float,
    steps: float,
) -> OptimizerLRScheduler:
    """AdamW over all trainable parameters with linear warm-up, then linear decay to zero.

    Args:
        module: the model.
        gate: its gate; one with an `lr_factor` gets a parameter group with its own learning rate.
        lr: peak learning rate.
        betas: betas of AdamW.
        weight_decay: weight decay of AdamW.
        warmup: fraction of the steps in which the learning rate rises.
        steps: number of steps of the training.

    Raises:
        ValueError: the number of steps is infinite.
    """
    factor = 1.0 if gate is None else gate.lr_factor
    of_gate = {*gate.parameters()} if gate is not None and factor != 1.0 else set()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": [part for part in trained if part not in of_gate]}]
    if own := [part for part in trained if part in of_gate]:
        groups += [{"params": own, "lr": lr * factor}]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr, betas, weight_decay=weight_decay, fused=True)
    # Fused, it could unscale gradients in float16 itself, and Lightning would then refuse to clip them.
    optimizer._step_supports_amp_scaling = False
    if steps == float("inf"):
        raise ValueError("the learning rate needs to know the last step; set max_epochs or max_steps")
    steps = max(1, int(steps))
    rise = max(1, round(warmup * steps))

    def scale(step: int) -> float:
        # step + 1, because the first step (0) should not have a learning rate of zero.
        return min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))

    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, scale), "interval": "step", "name": "train/lr"},
    }
