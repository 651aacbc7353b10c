"""Callback that logs the training throughput in samples per second."""

import time
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Logs `samples/s` over all ranks, as an exponential moving average (time constant of 50 steps)."""

    def __init__(self) -> None:
        """Starts without a timestamp: a run that resumes within an epoch gets no `on_train_epoch_start`."""
        self._last: float | None = None
        self._rate: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Resets the clock, so that evaluations do not count."""
        self._last = self._rate = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Updates the moving average with one batch."""
        now = time.monotonic()
        if self._last is not None:
            batch = rest[1]
            count = len(next(iter(batch.values()))) if isinstance(batch, dict) else len(batch)
            rate = count * trainer.world_size / max(now - self._last, 1e-9)
            self._rate = rate if self._rate is None else 0.98 * self._rate + 0.02 * rate
            pl_module.log("samples/s", self._rate, prog_bar=True, rank_zero_only=True)
        self._last = now
