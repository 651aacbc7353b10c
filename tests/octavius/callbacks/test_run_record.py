"""The record of a run in its log folder: how it began and how it ended."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from octavius.callbacks.run_record import RunRecord
from octavius.runs.listing import read


class Ending(L.Callback):
    """Raises at the third batch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status", "step"),
    [
        (None, "finished", 4),
        (KeyboardInterrupt(), "stopped", 2),
        (ValueError("no such\x1b[31m file"), "failed", 2),
    ],
)
def test_status_and_step_at_the_end(
    tmp_path: Path, error: BaseException | None, status: str, step: int
) -> None:
    record = RunRecord(["fit", "--config", "a b.yaml"], "a: 1\n", 7, Path("last.ckpt"))
    trainer = L.Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path, name=None),
        callbacks=[record, *([] if error is None else [Ending(error)])],
        max_steps=4,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    try:
        trainer.fit(BoringModel())
    except (ValueError, SystemExit):
        assert error is not None
    folder = tmp_path / "version_0"
    found = read(folder)
    assert found["command"] == "octavius fit --config 'a b.yaml'"
    assert (found["stage"], found["seed"], found["status"], found["step"]) == ("fit", 7, status, step)
    assert found["checkpoint"] == {"path": str(Path.cwd() / "last.ckpt")}
    assert found["started"] <= found["ended"]
    assert ("error" in found) is (status == "failed")
    assert yaml.safe_load((folder / "config.yaml").read_text()) == {"a": 1}


def test_without_a_logger_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = RunRecord([], "", None, None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.Trainer(accelerator="cpu", callbacks=[record], max_steps=1, enable_checkpointing=False, **quiet).fit(
        BoringModel()
    )
    assert list(tmp_path.iterdir()) == []
