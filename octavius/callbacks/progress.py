"""Progress bar with step, remaining time, loss and samples/s."""

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


class Progress(TQDMProgressBar):
    """Refreshes at every step on a terminal, and rarely if the output goes to a file."""

    def __init__(self) -> None:
        """Chooses the refresh rate."""
        super().__init__(refresh_rate=1 if sys.stdout.isatty() else 100)

    def on_train_epoch_start(self, trainer: L.Trainer, *rest: Any) -> None:
        """Counts epochs from one, like the printed tables."""
        super().on_train_epoch_start(trainer, *rest)
        number, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        self.train_progress_bar.set_description(
            f"epoch {number} of {last}" if last > 0 else f"epoch {number}"
        )

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The metrics shown in the bar, without the number of the log folder (`v_num`)."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
