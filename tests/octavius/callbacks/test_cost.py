"""The cost of a training is measured, continues after a pause, and is written once it is complete."""

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from octavius.callbacks.cost import Cost, peak_memory, workers_memory
from tests.octavius.callbacks.conftest import Line


class Slow(L.Callback):
    """Sleeps a tenth of a second a step; may stop the training as Ctrl-C does."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        time.sleep(0.1)
        if trainer.global_step == self.stop_at:
            raise KeyboardInterrupt


def fit(folder: Path, slow: Slow, resume: Path | None = None) -> tuple[L.Trainer, Cost]:
    cost = Cost()
    trainer = L.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=CSVLogger(folder, "log", "now"),
        callbacks=[cost, slow],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.ones(8))
    try:
        trainer.fit(Line(), loader, ckpt_path=resume)
    except SystemExit:
        trainer.save_checkpoint(folder / "part.ckpt")
    return trainer, cost


def test_a_training_in_two_parts_counts_as_one(tmp_path: Path) -> None:
    fit(tmp_path, Slow(stop_at=2))
    kept = torch.load(tmp_path / "part.ckpt", weights_only=True)["callbacks"]["Cost"]
    assert 0.3 <= kept["seconds"] < 3
    assert not (tmp_path / "log" / "now" / "cost.json").exists(), "it is not done"
    _, cost = fit(tmp_path, Slow(), tmp_path / "part.ckpt")
    found = json.loads((tmp_path / "log" / "now" / "cost.json").read_text())
    assert found["steps"] == 4
    assert kept["seconds"] + 0.2 <= found["seconds"] <= cost.seconds
    assert found["memory_gib"] >= kept["memory"] > 0
    assert "gpu_memory_gib" not in found or torch.cuda.is_available()


def test_memory_once_held_is_counted_after_it_is_given_back() -> None:
    held = np.ones(2**25)  # a quarter of a GiB
    most = peak_memory()
    assert most > 0.25
    del held
    assert peak_memory() == pytest.approx(most, abs=0.01)


def hold(asked: Any, done: Any) -> None:
    held = np.ones(2**25)  # a quarter of a GiB
    asked.set()
    done.wait()
    assert held.all()


def test_a_worker_counts_with_what_it_holds_for_itself() -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("only Linux tells what a process holds for itself")
    assert workers_memory() == 0.0
    context = multiprocessing.get_context("fork")
    shared = np.ones(2**25)  # the child sees it, and holds nothing for it
    asked, done = context.Event(), context.Event()
    child = context.Process(target=hold, args=(asked, done))
    child.start()
    try:
        assert asked.wait(20)
        assert 0.25 <= workers_memory() < 0.4
    finally:
        done.set()
        child.join()
    assert shared.all()
