"""Saves checkpoints: atomically, with a checksum, and with the run's configuration inside."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from octavius.callbacks.board import log_folder
from octavius.callbacks.position import Position, validation_is_due
from octavius.checkpoint.opened import OpenCheckpoint
from octavius.checkpoint.resuming import check_optimizers
from octavius.checkpoint.run_weights import keep
from octavius.checkpoint_format.configuration import KEY, may_overwrite, with_header, yaml_path
from octavius.checkpoint_format.content import FORMAT, FORMAT_KEY
from octavius.checkpoint_format.seal import is_sealed, seal
from octavius.checkpoint_format.weights import read_checkpoint
from octavius.files import atomic_write, write_text
from octavius.interrupts import INTERRUPTS


class Checkpoint(ModelCheckpoint):
    """ModelCheckpoint that also saves within epochs and, after an error or a signal, only consistent states.

    Nothing is saved before training has begun (a checkpoint may be half loaded), nor after an error in the
    middle of an optimizer step. Ranks save together if they were stopped together, after the same batch
    (`octavius.callbacks.stopping`). After an error on one rank the others are elsewhere: with DDP, where each
    rank has the whole model, rank 0 saves alone; a sharded model is not saved.
    """

    _saved = (0, 0)
    _folder: Path | None = None

    def __init__(self, every_n_minutes: float | None = 10.0, **options: Any) -> None:
        """Saves nothing yet.

        Args:
            every_n_minutes: save within an epoch too, if the last checkpoint is older than this, so that a killed run
                does not lose a long epoch; null saves at the end of each epoch only.
            options: see `ModelCheckpoint`.
        """
        if every_n_minutes is not None and not every_n_minutes > 0:
            raise ValueError(
                f"checkpoint.every_n_minutes must be above 0 or null, found {every_n_minutes}; for no checkpoint "
                "within an epoch set it to null"
            )
        super().__init__(**options)
        self.every_n_minutes = every_n_minutes
        self._last_time = time.monotonic()

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Records the number of optimizer and scheduler states, since Lightning silently drops surplus ones."""
        self._saved = len(checkpoint.get("optimizer_states", ())), len(checkpoint.get("lr_schedulers", ()))
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks the restored optimizers before the first step."""
        if trainer.ckpt_path:
            check_optimizers(trainer, self._saved)
        super().on_train_start(trainer, pl_module)
        self._last_time = time.monotonic()
        self._folder = log_folder(trainer)  # broadcast, so it cannot be asked for later by one rank alone

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Saves if the last checkpoint is too old, unless one is due at the end of the epoch anyway."""
        super().on_train_batch_end(trainer, *rest)
        if (
            self.every_n_minutes is None
            or self.monitor is not None  # what is monitored may not be known yet
            or not self.save_top_k
            or trainer.fit_loop._should_accumulate()  # gradients so far would be lost
            or trainer.is_last_batch
            or validation_is_due(trainer)
        ):
            return
        due = time.monotonic() - self._last_time > 60 * self.every_n_minutes
        if trainer.world_size > 1:  # ranks save together
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due and not self._should_skip_saving_checkpoint(trainer):
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the last steps too, if their number is not a multiple of `every_n_train_steps`."""
        super().on_train_end(trainer, pl_module)
        if self._every_n_train_steps < 1 or self.monitor is not None or not self.save_top_k:
            return
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Saves the training up to its last complete step."""
        position = next((one for one in trainer.callbacks if isinstance(one, Position)), None)  # type: ignore[attr-defined]
        if position is not None and not position.begun:
            return
        if position is not None and not position.whole(trainer):
            rank_zero_info("the error came within the optimizer's step: the checkpoint before it is kept")
            return
        if trainer.world_size == 1:
            super().on_exception(trainer, pl_module, exception)
        elif isinstance(exception, SIGTERMException):
            with INTERRUPTS.saving():  # gathering shards may take as long as writing them
                super().on_exception(trainer, pl_module, exception)
        elif isinstance(trainer.strategy, DDPStrategy) and self._should_save_on_exception(trainer):
            self._save_alone(trainer)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Defers signals until the step is recorded as saved, so that it is not saved a second time."""
        INTERRUPTS.held = True
        try:
            super()._save_checkpoint(trainer, filepath)
            self._last_time = time.monotonic()
            self._keep(trainer, Path(filepath))
        finally:
            INTERRUPTS.held = False
        INTERRUPTS.check()

    def _keep(self, trainer: L.Trainer, file: Path) -> None:
        """Keeps the checkpoint in the log folder too; training goes on without if that fails."""
        if self._folder is None or not trainer.is_global_zero or not file.is_file():
            return
        try:
            keep(file, trainer.global_step, self._folder)
        except (OSError, ValueError) as error:
            rank_zero_warn(f"{file} is saved, but not kept in the log folder {self._folder}: {error}")

    def _save_alone(self, trainer: L.Trainer) -> None:
        """Like `trainer.save_checkpoint`, but without a barrier and without reducing metrics over ranks."""
        counts = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        path = self.format_checkpoint_name({key: torch.tensor(value) for key, value in counts.items()})
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(self.save_weights_only)
        trainer.strategy.save_checkpoint(checkpoint, path)  # writes on rank 0 only
        self._keep(trainer, Path(path))


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints that contain the run's configuration, and an editable YAML copy of it next to them.

    Attributes:
        configuration: YAML text.
        opened: the checkpoint to resume from, until the trainer has taken it.
        last: path of the last checkpoint that this process saved; None before the first.
    """

    def __init__(self, configuration: str, opened: OpenCheckpoint | None = None) -> None:
        """Stores the configuration and the opened checkpoint; nothing is written until a checkpoint is."""
        self.configuration, self.opened = configuration, opened
        self.last: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replaces a checkpoint, then the YAML file next to it.

        If the process is killed at any time, the checkpoint is the old or the new one, with its own
        configuration inside. A YAML file that does not belong to a checkpoint is left alone.

        Raises:
            OSError: the disk is full, or the target is not writable.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are local files, there are no storage options")
        with INTERRUPTS.saving():
            self._save(checkpoint, Path(path))

    def _save(self, checkpoint: dict[str, Any], path: Path) -> None:
        yaml_file = yaml_path(path)
        overwrite = may_overwrite(yaml_file) or (path.is_file() and not is_sealed(path))
        whole = {**checkpoint, KEY: self.configuration, FORMAT_KEY: FORMAT}
        try:
            with atomic_write(path) as partial:
                with partial.open("wb") as file:  # given a path, torch.save hides the OSError of a full disk
                    torch.save(whole, file)
                seal(partial)
        except OSError as error:
            lost = f"the checkpoint of step {checkpoint.get('global_step')} is lost"
            kept = "the one from before still stands" if path.is_file() else "there was none before"
            raise OSError(error.errno, f"{error.strerror}; {lost}, {kept}", str(path)) from error
        self.last = path
        if overwrite:
            write_text(yaml_file, with_header(self.configuration))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ARG002 - always the CPU; Lightning moves tensors itself
        weights_only: bool | None = None,  # noqa: ARG002 - always true
    ) -> dict[str, Any]:
        """Returns the content of the opened checkpoint, once; reads any other one with `read_checkpoint`.

        Raises:
            ValueError: it is damaged, or not a checkpoint.
        """
        opened = self.opened
        if opened is None or opened.path != Path(path):
            return read_checkpoint(Path(path))
        self.opened = None  # restoring changes the content, and the file may be replaced by a later one
        return opened.content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes the checkpoint and its YAML file."""
        super().remove_checkpoint(path)
        if may_overwrite(yaml_file := yaml_path(Path(path))):
            yaml_file.unlink(missing_ok=True)
