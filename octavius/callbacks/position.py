"""Where a training is, as checkpoints record it: always after a whole optimizer step.

Lightning writes its counters as they are at the moment of saving. Within a step they are ahead of the weights, within
an accumulation the gradients so far are not saved at all, and within an evaluation the resumed run would skip as many
batches of it as had been answered. A run that was stopped there would go on with other numbers.
"""

from typing import Any

import lightning as L
from torch import Tensor


class Position(L.Callback):
    """Notes the position after each step and each evaluation, and puts the last one into every checkpoint.

    The weights that are saved belong to it: they do not change until the optimizer's next step begins, and a resumed
    run repeats what was done since then, which is seeded by epoch and batch.

    Attributes:
        begun: whether a batch was begun, so that weights, optimizer and counters belong together.
    """

    def __init__(self) -> None:
        """Knows no position yet."""
        self._noted: dict[str, Any] | None = None
        self._versions: list[int] | None = None
        self.begun = False

    def whole(self, trainer: L.Trainer) -> bool:
        """Whether weights and optimizer are those of the position that was noted last."""
        return self._versions is not None and self._versions == versions(trainer)

    def on_load_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Takes the position that the run goes on from."""
        keys = ("epoch", "global_step", "loops", _data_key(trainer))
        self._noted = {key: checkpoint[key] for key in keys if key in checkpoint}

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Nothing has been done yet that a checkpoint would hold."""
        _begin_next_epoch(trainer)
        if self._noted is None:
            self._note(trainer)
        self._versions = versions(trainer)

    def on_train_batch_start(self, *_: Any) -> None:
        """Whatever checks what was loaded has done so."""
        self.begun = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """The end of a step, unless gradients are still being accumulated."""
        if not trainer.fit_loop._should_accumulate():
            self._note(trainer, before_validation=_validation_is_due(trainer))

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Removes the mark of an evaluation that was cut off, now that it is done again."""
        trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """The evaluation is done."""
        if (
            trainer.state.fn == "fit"
            and not trainer.sanity_checking
            and not trainer.fit_loop._should_accumulate()
        ):
            self._note(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """The epoch is done."""
        self._note(trainer)

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Puts the position in place of the counters of this moment."""
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
    """How often each trained tensor and each tensor of the optimizer was written to, as autograd counts it."""
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
    """The counter of a tensor, or of this process's part of a sharded one."""
    local: Tensor = getattr(tensor, "_local_tensor", tensor)
    return local._version


def _validation_is_due(trainer: L.Trainer) -> bool:
    """Whether Lightning evaluates after the batch that has just ended."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    return (
        fetcher is not None
        and bool(sum(trainer.num_val_batches or [0]))
        and loop._should_check_val_fx(fetcher)
    )


def _mark_validation(fit_loop: dict[str, Any]) -> None:
    """Has a resumed run begin with the evaluation, from its first batch."""
    batches = fit_loop["epoch_loop.batch_progress"]
    for count in (batches["total"], batches["current"]):
        count["completed"] = count["processed"]
    evaluated = fit_loop["epoch_loop.val_loop.batch_progress"]
    evaluated["current"] = dict.fromkeys(evaluated["current"], 0)
    # What Lightning takes for an evaluation that was cut off: a batch was begun and not processed.
    evaluated["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    evaluated["is_last_batch"] = False


def _begin_next_epoch(trainer: L.Trainer) -> None:
    """Begins a new epoch after a checkpoint of the end of one.

    Where `max_steps` is set, Lightning takes that for an unfinished epoch, ends it a second time, and leaves out one.
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
