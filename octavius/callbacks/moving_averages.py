"""Callback that logs moving averages in training: the loss, and the throughput in samples per second."""

import time
from typing import Any

import lightning as L

from octavius.callbacks.board import OVERVIEW

DECAY = 0.98
"""Decay per step, which gives a time constant of 50 steps."""


class MovingAverages(L.Callback):
    """Logs exponential moving averages: `Overview/train/loss`, and `samples/s` over all ranks."""

    def __init__(self) -> None:
        """Starts without a timestamp: a run that resumes within an epoch gets no `on_train_epoch_start`."""
        self._last: float | None = None
        self._rate: float | None = None
        self._loss: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Resets the clock, so that evaluations do not count."""
        self._last = self._rate = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Updates the averages with one batch."""
        now = time.monotonic()
        if self._last is not None:
            batch = rest[1]
            count = len(next(iter(batch.values()))) if isinstance(batch, dict) else len(batch)
            self._rate = _average(self._rate, count * trainer.world_size / max(now - self._last, 1e-9))
            pl_module.log("samples/s", self._rate, prog_bar=True, rank_zero_only=True)
        self._last = now
        if (loss := trainer.progress_bar_metrics.get("train/loss")) is not None:
            self._loss = _average(self._loss, float(loss))
            pl_module.log(OVERVIEW.format("train", "loss"), self._loss, rank_zero_only=True)


def _average(before: float | None, value: float) -> float:
    return value if before is None else DECAY * before + (1 - DECAY) * value
