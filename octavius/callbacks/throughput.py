"""Batches pass by, their number of samples a second goes to the progress bar and the log."""

import time
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Logs `samples/s` over all processes, averaged over the last hundred steps or so."""

    def __init__(self) -> None:
        """Starts without a time: a run that resumes within an epoch never sees the epoch start."""
        self._last: float | None = None
        self._rate: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Starts the clock again, so that an evaluation does not count."""
        self._last = self._rate = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Takes the time of one batch into a running mean."""
        now = time.monotonic()
        if self._last is not None:
            batch = rest[1]
            count = len(next(iter(batch.values()))) if isinstance(batch, dict) else len(batch)
            rate = count * trainer.world_size / max(now - self._last, 1e-9)
            self._rate = rate if self._rate is None else 0.98 * self._rate + 0.02 * rate
            pl_module.log("samples/s", self._rate, prog_bar=True, rank_zero_only=True)
        self._last = now
