"""Checkpoints and the run's configuration come in, files side by side go out."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Checkpoint(ModelCheckpoint):
    """Saves as its parent does, but after an error only where this process is alone.

    All processes save together, and those that the error did not reach are elsewhere: each would wait for the
    other without end. SIGTERM reaches all of them after the same step (`octavius.callbacks.stopping`).
    """

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Saves what there is, when nobody else has to take part."""
        if trainer.world_size == 1 or isinstance(exception, SIGTERMException):
            super().on_exception(trainer, pl_module, exception)


class CheckpointFiles(TorchCheckpointIO):
    """Writes the configuration beside each checkpoint, where `--ckpt` finds it.

    Attributes:
        configuration: the text that is written.
        last: the checkpoint that was saved last by this process; None before the first.
    """

    def __init__(self, configuration: str) -> None:
        """Keeps the text; nothing is written before there is a checkpoint."""
        self.configuration = configuration
        self.last: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Saves both files."""
        super().save_checkpoint(checkpoint, path, storage_options)
        Path(path).with_suffix(".yaml").write_text(self.configuration, encoding="utf-8")
        self.last = Path(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes both files."""
        super().remove_checkpoint(path)
        Path(path).with_suffix(".yaml").unlink(missing_ok=True)
