"""Checks before training that checkpoints and logs can be written, so that no work is lost on a full disk."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from octavius.checkpoint_format.weights import trainable
from octavius.files import check_replaceable, check_writable
from octavius.training import OctaviusModule

STATES = 2
"""Number of tensors in AdamW's state per trained tensor."""


def check_targets(trainer: L.Trainer, module: L.LightningModule, fit: bool) -> None:
    """Checks that the folders of checkpoints, logs and trained models are writable and have enough space.

    Args:
        trainer: the trainer of the run.
        module: the module that is trained.
        fit: whether checkpoints will be written.

    Raises:
        OSError: a folder is not writable, or too full for one checkpoint with the optimizer's state.
        ValueError: a folder is not on a file system.
    """
    for logger in trainer.loggers:
        if logger.save_dir is not None:
            check_writable(_local(logger.save_dir, "the logger's save_dir"))
    if not fit:
        return
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None:
            folder = _local(callback.dirpath, "checkpoint.dirpath")
            check_writable(folder, size_of(module))
            if callback.filename and "{" not in callback.filename:  # otherwise the name is not known yet
                check_replaceable(folder / f"{callback.filename}{callback.FILE_EXTENSION}")
    for name in ("save_to", "save_decoder"):
        if (target := getattr(module, name, None)) is not None:
            check_writable(_local(target, name), _bytes(module) // 2)


def size_of(module: L.LightningModule) -> int:
    """Estimated size of a checkpoint in bytes: the saved tensors and the optimizer's state."""
    if isinstance(module, OctaviusModule):
        saved = trained = sum(part.nbytes for part in trainable(module).values())
    else:
        saved = _bytes(module)
        trained = sum(part.nbytes for part in module.parameters() if part.requires_grad)
    return saved + STATES * trained


def _bytes(module: nn.Module) -> int:
    return sum(part.nbytes for part in module.state_dict().values())


def _local(location: str | Path, name: str) -> Path:
    if "://" in str(location):
        raise ValueError(
            f"{name} is {location}, expected a folder: files are replaced whole only on a file system"
        )
    return Path(location)
