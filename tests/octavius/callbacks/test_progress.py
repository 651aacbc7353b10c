"""The bar and the lines of a run: smoothed loss, time left, and a word about compiling."""

import io
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor
from torch.utils.data import DataLoader

from octavius.callbacks.progress import Progress, ProgressLines, Trend


class Module(BoringModel):
    """Logs the numbers 1, 2, 3, ... as its loss."""

    def __init__(self, compiled: bool = False) -> None:
        super().__init__()
        self.model = SimpleNamespace(decoder=SimpleNamespace(compiled=compiled))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("train/loss", float(batch_idx + 1), prog_bar=True)
        loss: Tensor = self(batch).mean()
        return loss


def run(tmp_path: Path, callback: L.Callback, bar: bool, compiled: bool = False, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_progress_bar=bar,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        **{
            "max_epochs": 2,
            "limit_train_batches": 20,
            "limit_val_batches": 3,
            "num_sanity_val_steps": 0,
            **options,
        },
    )
    trainer.fit(Module(compiled))
    return trainer


def test_lines_come_ten_times_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, ProgressLines(), bar=False, compiled=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "compiling the language model: the first step takes one to three minutes"
    lines = [line for line in printed if line.startswith("epoch")]
    assert len(lines) == 20
    assert lines[0].startswith("epoch 1 of 2: batch 2 of 20, train/loss 1.050, ")
    assert lines[-1].startswith("epoch 2 of 2: batch 20 of 20, ")
    assert lines[-1].endswith("0:00:00 left")
    assert [line for line in printed if line.startswith("validation")][:3] == [
        f"validation: batch {number} of 3" for number in (1, 2, 3)
    ]


def test_the_bar_shows_the_average_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, Progress(), bar=True, max_epochs=1)
    out, err = capsys.readouterr()
    last = [
        line for line in (out + err).replace("\r", "\n").splitlines() if line.startswith("epoch 1 of 1:")
    ][-1]
    assert "| 20/20 [" in last
    mean = 1.0
    for number in range(2, 21):
        mean = 0.95 * mean + 0.05 * number
    assert f"train/loss={mean:.2f}"[:14] in last
    assert "eta=0:00:00" in last
    assert "v_num" not in last
    assert "compiling" not in out


class Answering(Module):
    """Returns three answers to a batch, as `OctaviusModule` returns one for each sample."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
        return {"answers": ["yes"] * len(batch)}

    def val_dataloader(self) -> Any:
        return DataLoader(torch.ones(8, 32), batch_size=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("bar", [True, False])
def test_evaluations_count_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bar: bool
) -> None:
    monkeypatch.setattr("tests.octavius.callbacks.test_progress.Module", Answering)
    run(tmp_path, Progress() if bar else ProgressLines(), bar=bar, max_epochs=1)
    text = "".join(capsys.readouterr()).replace("\r", "\n")
    assert "| 8/8 [" in text if bar else "validation: 8 of 8 answers" in text
    assert "answer/s" in text or not bar
    assert ("3/8" if bar else "validation: 3 of 8 answers") in text


def test_time_left_counts_from_the_step_that_a_run_resumed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 130.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    trend, trainer = Trend(), SimpleNamespace(global_step=40, estimated_stepping_batches=100)
    assert trend.left(trainer) is None  # type: ignore[arg-type]
    trend.begin(trainer)  # type: ignore[arg-type]
    assert trend.left(trainer) is None  # type: ignore[arg-type]
    trainer.global_step = 50
    assert trend.left(trainer) == timedelta(seconds=150)  # type: ignore[arg-type]
    trainer.estimated_stepping_batches = float("inf")
    assert trend.left(trainer) is None  # type: ignore[arg-type]


def test_nothing_else_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    run(tmp_path, ProgressLines(), bar=False, max_epochs=1, limit_val_batches=0)
    assert all(line.startswith("epoch 1 of 1: batch ") for line in out.getvalue().splitlines())
