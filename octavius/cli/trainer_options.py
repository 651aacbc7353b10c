"""Checks of Trainer options that Lightning does not check, or refuses with a stack trace only.

Values that Lightning refuses with a message are left to it.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder

from octavius.limits import NON_NEGATIVE_INT, NON_NEGATIVE_NUMBER, POSITIVE_INT, POSITIVE_NUMBER, Range

RANGES = {
    "accumulate_grad_batches": POSITIVE_INT,
    "check_val_every_n_epoch": POSITIVE_INT,
    "gradient_clip_val": NON_NEGATIVE_NUMBER,
    "log_every_n_steps": NON_NEGATIVE_INT,
    "num_nodes": POSITIVE_INT,
    "num_sanity_val_steps": Range(-1, 10**8, integer=True),
    "reload_dataloaders_every_n_epochs": NON_NEGATIVE_INT,
    "val_check_interval": POSITIVE_NUMBER,
}
LAUNCHERS = ("NODE_RANK", "GROUP_RANK", "RANK", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "LSB_JOBID")
"""Environment variables that a multi-node launcher sets."""


def check_trainer(options: Mapping[str, Any]) -> None:
    """Refuses options that would end in a stack trace, or in a run that hangs.

    Args:
        options: arguments of the Trainer, by name.

    Raises:
        ValueError: an option is out of range or unsupported.
    """
    for name, allowed in RANGES.items():
        value = options.get(name)
        if isinstance(value, int | float):  # val_check_interval may also be a duration as text
            allowed.check(**{f"trainer.{name}": value})
    if options.get("overfit_batches"):
        raise ValueError(
            "trainer.overfit_batches is not supported, because the data module plans which samples an epoch has; to "
            "overfit on few, set `limit` of the training sources and data.init_args.samples_per_epoch"
        )
    callbacks = options.get("callbacks") or ()
    for callback in callbacks if isinstance(callbacks, Iterable) else (callbacks,):
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            raise ValueError(
                f"{type(callback).__name__} makes trial steps, for which the planned order of the data has no place; "
                "set batch_size (`octavius plan` says which fits) and lr, and try values with `octavius compare`"
            )
    strategy = options.get("strategy")
    if isinstance(strategy, str) and strategy != strategy.lower():  # Lightning's own names are in lower case
        raise ValueError(
            f"trainer.strategy is {strategy!r}; a class is named by its class_path, as in --trainer.strategy "
            f"'{{class_path: {strategy}}}'; for FSDP2 add --config fsdp.yaml"
        )
    check_devices(options.get("devices"), options.get("accelerator"))
    nodes = options.get("num_nodes") or 1
    if nodes > 1 and not any(name in os.environ for name in LAUNCHERS):
        raise ValueError(
            f"trainer.num_nodes is {nodes}, but nothing says which of them this is, so that it would wait for the "
            "others; start each by torchrun or srun, or set NODE_RANK, MASTER_ADDR and MASTER_PORT"
        )


def check_devices(devices: Any, accelerator: Any) -> None:
    """Refuses a number of processes that makes no sense on a CPU; Lightning checks numbers of GPUs itself.

    Raises:
        ValueError: it is not a whole number in range.
    """
    on_cpu = accelerator == "cpu" or (accelerator in (None, "auto") and not torch.accelerator.is_available())
    if not on_cpu or devices in (None, "auto"):
        return
    most = max(64, os.cpu_count() or 1)
    count = int(devices) if isinstance(devices, int) or str(devices).isdecimal() else 0
    if isinstance(devices, bool) or not 1 <= count <= most:
        raise ValueError(
            f"trainer.devices should be a number of processes from 1 to {most} on the CPU, found {devices!r:.40}"
        )
