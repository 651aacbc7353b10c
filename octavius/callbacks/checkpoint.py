"""How checkpoints are saved: each file is replaced whole, carries a checksum, and holds the run's configuration."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from octavius.callbacks.position import Position
from octavius.checkpointing.configuration import KEY, file_beside, headed, may_replace
from octavius.checkpointing.content import FORMAT, FORMAT_KEY
from octavius.checkpointing.seal import is_sealed, seal
from octavius.files import replacing, write_text
from octavius.interrupts import INTERRUPTS
from octavius.resuming import check_optimizers
from octavius.weights import read_checkpoint


class Checkpoint(ModelCheckpoint):
    """Saves as its parent does; after an error or a signal only what belongs together, and waits for nobody.

    Nothing is saved before training has begun (a checkpoint may be half loaded), nor when an error came within the
    optimizer's step. Several processes save together when they were stopped together, after the same batch
    (`octavius.callbacks.stopping`). Otherwise those that the error did not reach are elsewhere: where each process
    has the whole model, the first one then saves alone, and what is sharded is not saved.
    """

    _saved = (0, 0)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Counts the states, of which Lightning leaves out what it has no use for."""
        self._saved = len(checkpoint.get("optimizer_states", ())), len(checkpoint.get("lr_schedulers", ()))
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks at what was put in place of a checkpoint, before the first step is made with it."""
        if trainer.ckpt_path:
            check_optimizers(trainer, self._saved)
        super().on_train_start(trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Saves the training up to its last whole step."""
        position = next((one for one in trainer.callbacks if isinstance(one, Position)), None)  # type: ignore[attr-defined]
        if position is not None and not position.begun:
            return
        if position is not None and not position.whole(trainer):
            rank_zero_info("the error came within the optimizer's step: the checkpoint before it is kept")
            return
        if trainer.world_size == 1:
            super().on_exception(trainer, pl_module, exception)
        elif isinstance(exception, SIGTERMException):
            with INTERRUPTS.saving():  # gathering what is sharded may take as long as writing it
                super().on_exception(trainer, pl_module, exception)
        elif isinstance(trainer.strategy, DDPStrategy) and self._should_save_on_exception(trainer):
            self._save_alone(trainer)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Has a signal wait until it is known that this step is saved, which is not to be done twice."""
        INTERRUPTS.held = True
        try:
            super()._save_checkpoint(trainer, filepath)
        finally:
            INTERRUPTS.held = False
        INTERRUPTS.check()

    def _save_alone(self, trainer: L.Trainer) -> None:
        """Saves as `trainer.save_checkpoint`, but waits for no other process and reduces no metrics with it."""
        counts = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        path = self.format_checkpoint_name({key: torch.tensor(value) for key, value in counts.items()})
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(self.save_weights_only)
        trainer.strategy.save_checkpoint(checkpoint, path)  # only the first process writes


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints with the run's configuration in them, and beside them as a YAML file that people can edit.

    Attributes:
        configuration: YAML text.
        last: the checkpoint that was saved last by this process; None before the first.
    """

    def __init__(self, configuration: str) -> None:
        """Keeps the text; nothing is written before there is a checkpoint."""
        self.configuration = configuration
        self.last: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replaces a checkpoint, then the YAML file beside it.

        After a kill or an error at any instant the checkpoint is the old or the new one, with its own configuration
        in it. A YAML file that is not of a checkpoint is left alone.

        Raises:
            OSError: the disk is full, or the target cannot be written.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are local files, there are no storage options")
        with INTERRUPTS.saving():
            self._save(checkpoint, Path(path))

    def _save(self, checkpoint: dict[str, Any], path: Path) -> None:
        beside = file_beside(path)
        free = may_replace(beside) or (path.is_file() and not is_sealed(path))
        whole = {**checkpoint, KEY: self.configuration, FORMAT_KEY: FORMAT}
        try:
            with replacing(path) as partial:
                with partial.open("wb") as file:  # unlike the writer of a path, this one tells why it failed
                    torch.save(whole, file)
                seal(partial)
        except OSError as error:
            lost = f"the checkpoint of step {checkpoint.get('global_step')} is lost"
            kept = "the one from before still stands" if path.is_file() else "there was none before"
            raise OSError(error.errno, f"{error.strerror}; {lost}, {kept}", str(path)) from error
        self.last = path
        if free:
            write_text(beside, headed(self.configuration))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ARG002 - on the CPU, from where Lightning moves what it needs
        weights_only: bool | None = None,  # noqa: ARG002 - never anything but tensors and plain values
    ) -> dict[str, Any]:
        """Reads a checkpoint as every command does.

        Raises:
            ValueError: it is damaged, or no checkpoint.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes both files."""
        super().remove_checkpoint(path)
        if may_replace(beside := file_beside(Path(path))):
            beside.unlink(missing_ok=True)
