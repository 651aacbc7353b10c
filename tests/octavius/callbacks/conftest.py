"""Runs a callback in a real trainer for three steps and an evaluation, and returns the answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader

from octavius.evaluation.answers import Answered

Evaluate = Callable[..., L.Trainer]


class Line(L.LightningModule):
    """A model of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002
        return (self.weight * batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class HandOver(L.Callback):
    """Does what the evaluation does at its end."""

    def __init__(self, answers: Sequence[Answered]) -> None:
        self.answers = list(answers)

    def on_validation_epoch_end(self, trainer: Any, pl_module: L.LightningModule) -> None:
        for callback in trainer.callbacks:
            if hasattr(callback, "on_answers"):
                callback.on_answers(trainer, pl_module, "val", self.answers)


@pytest.fixture(scope="session")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Trains three steps and evaluates once, with TensorBoard or the logger that is given."""

    def run(
        callback: L.Callback, answers: Sequence[Answered], logger: Logger | bool | None = None
    ) -> L.Trainer:
        folder = tmp_path_factory.mktemp("run")
        trainer = L.Trainer(
            max_steps=3,
            accelerator="cpu",
            default_root_dir=folder,
            logger=TensorBoardLogger(folder, "log", "now") if logger is None else logger,
            callbacks=[callback, HandOver(answers)],
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(Line(), DataLoader(torch.ones(3)), DataLoader(torch.ones(1)))
        return trainer

    return run


@pytest.fixture(scope="session")
def events() -> Callable[[Path], EventAccumulator]:
    """What TensorBoard would show of a folder of logs."""

    def read(folder: Path) -> EventAccumulator:
        everything = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
        return EventAccumulator(str(folder), everything).Reload()

    return read
