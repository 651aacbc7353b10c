"""Progress of a run: a bar with smoothed loss and remaining time on a terminal, else a line now and then."""

import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

DECAY = 0.95
"""Decay of the moving average of the loss per batch, which spans some 20 batches."""

LINES = 10
"""Number of lines per epoch, and per evaluation, where the output is not a terminal."""


class Trend:
    """Moving average of the training loss, and an estimate of the time that is left of the whole fit."""

    def __init__(self) -> None:
        """Starts without a value."""
        self.loss: float | None = None
        self._began: tuple[float, int] | None = None

    def begin(self, trainer: L.Trainer) -> None:
        """Starts the clock, at the step from which a run resumes."""
        self._began = time.monotonic(), trainer.global_step

    def update(self, trainer: L.Trainer) -> None:
        """Adds the loss of the batch that has just ended."""
        found = trainer.progress_bar_metrics.get("train/loss")
        if found is not None:
            now = float(found)
            self.loss = now if self.loss is None else DECAY * self.loss + (1 - DECAY) * now

    def left(self, trainer: L.Trainer) -> timedelta | None:
        """Time to the end of the fit at the pace so far, evaluations included; None if that is not known."""
        total = trainer.estimated_stepping_batches
        if self._began is None or total == float("inf"):
            return None
        began, first = self._began
        done = trainer.global_step - first
        if done < 1:
            return None
        seconds = (time.monotonic() - began) / done * max(0, int(total) - trainer.global_step)
        return timedelta(seconds=round(seconds))


class Progress(TQDMProgressBar):
    """A bar for terminals: epoch, batch, moving average of the loss, samples/s, and time left of the whole fit."""

    def __init__(self) -> None:
        """Refreshes at every batch."""
        super().__init__(refresh_rate=1)
        self._trend = Trend()

    def on_train_start(self, trainer: L.Trainer, *rest: Any) -> None:
        """Starts the clock, and announces compilation, if any."""
        super().on_train_start(trainer, *rest)
        self._trend.begin(trainer)
        announce_compilation(trainer, *rest)

    def on_train_epoch_start(self, trainer: L.Trainer, *rest: Any) -> None:
        """Counts epochs from one, like the printed tables."""
        super().on_train_epoch_start(trainer, *rest)
        self.train_progress_bar.set_description(_epoch(trainer))

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Updates the average before the bar is drawn."""
        self._trend.update(trainer)
        super().on_train_batch_end(trainer, *rest)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *rest: Any,
    ) -> None:
        """Counts the answers of an evaluation; batches if it gives none."""
        if not self._count(self.val_progress_bar, trainer.val_dataloaders, outputs, batch_idx):
            super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, *rest)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *rest: Any,
    ) -> None:
        """Counts the answers of an evaluation; batches if it gives none."""
        if not self._count(self.test_progress_bar, trainer.test_dataloaders, outputs, batch_idx):
            super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, *rest)

    def _count(self, bar: Any, loader: Any, outputs: Any, index: int) -> bool:
        """Adds the answers to a batch to a bar; whether there are any."""
        if (answers := _answers(outputs)) is None:
            return False
        if not index:  # the bar was made for batches
            bar.total, bar.unit, bar.n = _asked(loader, bar.total), "answer", 0
        if not bar.disable:
            bar.n += answers
            bar.refresh()
        return True

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The metrics shown in the bar, without the number of the log folder (`v_num`)."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._trend.loss is not None:
            metrics["train/loss"] = self._trend.loss
        if (left := self._trend.left(trainer)) is not None:
            metrics["eta"] = str(left)
        return metrics


class ProgressLines(L.Callback):
    """Lines for files and pipes, in which a bar would leave a line that grows with every batch."""

    def __init__(self) -> None:
        """Creates the loss average."""
        self._trend, self._done = Trend(), 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock, and announces compilation, if any."""
        self._trend.begin(trainer)
        announce_compilation(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Prints batch, loss, speed and remaining time from time to time."""
        self._trend.update(trainer)
        done, total = rest[-1] + 1, trainer.num_training_batches
        if trainer.is_global_zero and _is_due(done, total):
            parts = [f"{_epoch(trainer)}: batch {done}" + (f" of {total}" if total != float("inf") else "")]
            parts += [] if self._trend.loss is None else [f"train/loss {self._trend.loss:.3f}"]
            speed = trainer.progress_bar_metrics.get("samples/s")
            parts += [] if speed is None else [f"{float(speed):.3g} samples/s"]
            left = self._trend.left(trainer)
            parts += [] if left is None else [f"{left} left"]
            print(", ".join(parts), flush=True)

    def on_validation_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Prints how far an evaluation is."""
        self._evaluated(
            trainer, "validation", trainer.val_dataloaders, trainer.num_val_batches, rest[1], rest[3]
        )

    def on_test_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Prints how far an evaluation is."""
        self._evaluated(trainer, "test", trainer.test_dataloaders, trainer.num_test_batches, rest[1], rest[3])

    def _evaluated(
        self, trainer: L.Trainer, stage: str, loader: Any, totals: Any, outputs: Any, index: int
    ) -> None:
        total, answers = sum(totals) if isinstance(totals, list) else totals, _answers(outputs)
        self._done = (0 if not index else self._done) + (answers or 0)
        if trainer.is_global_zero and not trainer.sanity_checking and _is_due(index + 1, total):
            batches = f"batch {index + 1} of {total}"
            asked = f"{self._done} of {_asked(loader, total)} answers"
            print(f"{stage}: {batches if answers is None else asked}", flush=True)


def _answers(outputs: Any) -> int | None:
    """The number of answers that a step gave; None if it gives none, as in pretraining."""
    answers = outputs.get("answers") if isinstance(outputs, dict) else None
    return len(answers) if isinstance(answers, list) else None


def _asked(loader: Any, batches: float) -> int | None:
    """The number of samples in the first batches of a loader; None if it does not know."""
    size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
    if size is None or not hasattr(sampler, "__len__") or not batches:
        return None
    return int(min(len(sampler), batches * size))  # type: ignore[arg-type]


def announce_compilation(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Says that the first step compiles the language model, if it does."""
    decoder = getattr(getattr(module, "model", None), "decoder", None)
    if trainer.is_global_zero and getattr(decoder, "compiled", False):
        print("compiling the language model: the first step takes one to three minutes", flush=True)


def _is_due(done: int, total: float) -> bool:
    """Whether one of `LINES` equal parts has just ended; of an endless epoch every hundredth batch."""
    if total == float("inf"):
        return done % 100 == 0
    return done * LINES // int(total) > (done - 1) * LINES // int(total)


def _epoch(trainer: L.Trainer) -> str:
    number, last = trainer.current_epoch + 1, trainer.max_epochs or -1
    return f"epoch {number} of {last}" if last > 0 else f"epoch {number}"
