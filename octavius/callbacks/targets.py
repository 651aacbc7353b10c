"""Looks before training whether what it will write can be written, so that no work is lost on a full disk."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from octavius.files import check_replaceable, check_writable
from octavius.training import OctaviusModule
from octavius.weights import trainable

STATES = 2
"""Tensors that AdamW keeps for each one that it trains."""


def check_targets(trainer: L.Trainer, module: L.LightningModule, fit: bool) -> None:
    """Refuses folders of checkpoints, logs and trained models that cannot be written to, or have too little space.

    Args:
        trainer: of the run.
        module: what is trained.
        fit: whether there will be checkpoints.

    Raises:
        OSError: a folder cannot be written to, or is too full for one checkpoint with the optimizer's state.
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
    """About how many bytes a checkpoint takes: what is saved of the model, and the optimizer's state."""
    if isinstance(module, OctaviusModule):
        saved = trained = sum(part.nbytes for part in trainable(module).values())
    else:
        saved = _bytes(module)
        trained = sum(part.nbytes for part in module.parameters() if part.requires_grad)
    return saved + STATES * trained


def _bytes(module: nn.Module) -> int:
    return sum(part.nbytes for part in module.state_dict().values())


def _local(place: str | Path, name: str) -> Path:
    if "://" in str(place):
        raise ValueError(
            f"{name} is {place}, expected a folder: files are replaced whole only on a file system"
        )
    return Path(place)
