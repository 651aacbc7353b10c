"""Moving averages of the loss and of the throughput, in the group of tags that TensorBoard shows first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from octavius.callbacks.moving_averages import DECAY, MovingAverages


class Counting(BoringModel):
    """A model whose loss is the number of the batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("train/loss", float(batch_idx), prog_bar=True)
        return self.layer(torch.ones_like(batch)).sum()


def test_averages_of_loss_and_throughput(tmp_path: Path, events: Callable[[Path], EventAccumulator]) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, name=None),
        callbacks=[MovingAverages()],
        max_steps=3,
        limit_val_batches=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Counting())
    log = events(tmp_path / "version_0")
    second = 1 - DECAY
    expected = [0.0, second, DECAY * second + 2 * (1 - DECAY)]
    assert [event.value for event in log.Scalars("Overview/train/loss")] == pytest.approx(expected)
    rates = [event.value for event in log.Scalars("samples/s")]
    assert len(rates) == 2  # not of the first batch, which has nothing to be measured from
    assert min(rates) > 0
    groups = {tag.partition("/")[0] for tag in log.Tags()["scalars"]}
    assert min(groups) == "Overview"  # TensorBoard sorts by code point
