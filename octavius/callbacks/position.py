"""Records the position of a training in checkpoints, always as of a complete optimizer step.

Lightning stores its loop counters as they are when saving. In the middle of a step they are ahead of the
weights; during gradient accumulation the gradients so far are not saved; during an evaluation the resumed run
would skip the batches that were already evaluated. A run stopped there would not resume with the same
numbers.
"""

from typing import Any

import lightning as L
from torch import Tensor


class Position(L.Callback):
    """Records the counters after each step and each evaluation, and writes the last record to every checkpoint.

    The saved weights match it, since they do not change until the next optimizer step. A resumed run repeats
    the work done since the record, with the same random numbers: they are seeded by epoch and batch.

    Attributes:
        begun: whether a batch has begun, so that weights, optimizer and counters are consistent.
    """

    def __init__(self) -> None:
        """Starts without a record."""
        self._noted: dict[str, Any] | None = None
        self._versions: list[int] | None = None
        self.begun = False

    def whole(self, trainer: L.Trainer) -> bool:
        """Whether weights and optimizer are unchanged since the last record."""
        return self._versions is not None and self._versions == versions(trainer)

    def on_load_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Takes the position of the checkpoint as the record."""
        keys = ("epoch", "global_step", "loops", _data_key(trainer))
        self._noted = {key: checkpoint[key] for key in keys if key in checkpoint}

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Records the initial position, unless resumed."""
        _begin_next_epoch(trainer)
        if self._noted is None:
            self._note(trainer)
        self._versions = versions(trainer)

    def on_train_batch_start(self, *_: Any) -> None:
        """Marks that training has begun: all checks of what was loaded are done."""
        self.begun = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Records the position after a step, unless gradients are still being accumulated."""
        if not trainer.fit_loop._should_accumulate():
            self._note(trainer, before_validation=validation_is_due(trainer))

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Resets the marks of an interrupted evaluation (see `_mark_validation`), which now runs again."""
        trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Records that the evaluation is done."""
        if (
            trainer.state.fn == "fit"
            and not trainer.sanity_checking
            and not trainer.fit_loop._should_accumulate()
        ):
            self._note(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Records that the epoch is done."""
        self._note(trainer)

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Replaces the counters in the checkpoint by the record."""
        if self._noted is not None and self.whole(trainer):
            checkpoint.update(self._noted)

    def _note(self, trainer: L.Trainer, before_validation: bool = False) -> None:
        loops: dict[str, Any] = trainer._checkpoint_connector._get_loops_state_dict()
        if before_validation:
            _mark_validation(loops["fit_loop"])
        self._noted = {"epoch": trainer.current_epoch, "global_step": trainer.global_step, "loops": loops}
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and (state := data.state_dict()):
            self._noted[_data_key(trainer)] = state
        self._versions = versions(trainer)


def versions(trainer: L.Trainer) -> list[int]:
    """Autograd's version counters of trained tensors and optimizer states, which rise with in-place writes."""
    found: list[int] = []
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                held = optimizer.state.get(parameter, {})
                found += [
                    _version(value) for value in (parameter, *held.values()) if isinstance(value, Tensor)
                ]
    return found


def _version(tensor: Tensor) -> int:
    """The version counter of a tensor, or of this rank's shard of a DTensor."""
    local: Tensor = getattr(tensor, "_local_tensor", tensor)
    return local._version


def validation_is_due(trainer: L.Trainer) -> bool:
    """Whether Lightning will evaluate after the batch that has just ended."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    return (
        fetcher is not None
        and bool(sum(trainer.num_val_batches or [0]))
        and loop._should_check_val_fx(fetcher)
    )


def _mark_validation(fit_loop: dict[str, Any]) -> None:
    """Edits saved counters so that a resumed run starts with the evaluation, from its first batch."""
    batches = fit_loop["epoch_loop.batch_progress"]
    for count in (batches["total"], batches["current"]):
        count["completed"] = count["processed"]
    evaluated = fit_loop["epoch_loop.val_loop.batch_progress"]
    evaluated["current"] = dict.fromkeys(evaluated["current"], 0)
    # Lightning resumes an evaluation if a batch was started but not processed.
    evaluated["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    evaluated["is_last_batch"] = False


def _begin_next_epoch(trainer: L.Trainer) -> None:
    """Starts a new epoch after resuming from a checkpoint that was saved at the end of one.

    With `max_steps` set, Lightning takes that epoch for unfinished, ends it a second time and so skips one.
    """
    loop = trainer.fit_loop
    progress: Any = loop.epoch_progress
    if loop.restarting and progress.current.ready == progress.current.processed:
        for count in (progress.total, progress.current):
            count.completed = count.processed
        for part in (loop, loop.epoch_loop, loop.epoch_loop.automatic_optimization, loop.epoch_loop.val_loop):
            part._restarting = False
            part.reset_restart_stage()


def _data_key(trainer: L.Trainer) -> str:
    return type(trainer.datamodule).__qualname__  # type: ignore[attr-defined]
