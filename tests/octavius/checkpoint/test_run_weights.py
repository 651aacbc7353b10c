"""The checkpoints in the log folder of a run."""

import errno
import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from octavius.checkpoint.run_weights import keep, validation_means
from octavius.checkpoint.saving import Checkpoint
from octavius.runs import history
from octavius.runs.history import Measurement


def scored(epoch: int, *values: float, stage: str = "val") -> list[Measurement]:
    return [
        Measurement(stage, epoch, 10 * epoch, f"set{n}", "vqa", "standard", "acc1", True, 5, value)
        for n, value in enumerate(values)
    ]


def test_means_of_validations_alone() -> None:
    other = Measurement("val", 1, 10, "set0", "vqa", "standard", "acc1_exact", False, 5, 9.0)
    rows = [*scored(1, 0.2, 0.4), other, *scored(2, 0.5), *scored(2, 7.0, stage="test")]
    assert validation_means(rows) == pytest.approx({10: 0.3, 20: 0.5})
    assert validation_means([*scored(1, float("nan")), *scored(2, 0.5)]) == {20: 0.5}


@pytest.mark.parametrize("links", [True, False])
def test_the_last_and_the_best_stay_when_a_later_run_replaces_the_shared_one(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: Any) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    shared, folder = tmp_path / "checkpoints" / "last.ckpt", tmp_path / "version_0"
    shared.parent.mkdir()
    for epoch, value in enumerate((0.3, 0.5, 0.4), 1):
        history.append(folder, scored(epoch, value))
        new = tmp_path / "new"
        new.write_text(f"epoch {epoch}")
        new.replace(shared)
        keep(shared, 10 * epoch, folder)
        keep(shared, 10 * epoch, folder)  # a second time changes nothing
        assert (folder / "last.ckpt").read_text() == f"epoch {epoch}"
    assert (folder / "last.ckpt").samefile(shared) is links
    keep(shared, 30, tmp_path / "version_1")  # another run, without a validation
    assert (folder / "best.ckpt").read_text() == "epoch 2"
    assert sorted(file.name for file in folder.iterdir()) == ["best.ckpt", "history.jsonl", "last.ckpt"]
    assert [file.name for file in (tmp_path / "version_1").iterdir()] == ["last.ckpt"]


def test_a_checkpoint_since_the_best_validation_is_not_the_best(tmp_path: Path) -> None:
    for step, content in ((10, "validated"), (15, "within the next epoch")):
        (tmp_path / "new").write_text(content)
        (tmp_path / "new").replace(tmp_path / "shared.ckpt")
        history.append(tmp_path / "run", scored(1, 0.5) if step == 10 else [])
        keep(tmp_path / "shared.ckpt", step, tmp_path / "run")
    assert (tmp_path / "run" / "best.ckpt").read_text() == "validated"
    assert (tmp_path / "run" / "last.ckpt").read_text() == "within the next epoch"


def test_a_damaged_history_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="expected a score"):
        keep(tmp_path / "a.ckpt", 10, tmp_path / "run")
    assert (tmp_path / "run" / "last.ckpt").exists()


def test_a_log_folder_that_takes_no_file_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("octavius.checkpoint.saving.keep", full)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path, name=None),
        callbacks=[Checkpoint(dirpath=tmp_path / "checkpoints", filename="last")],
        max_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.warns(UserWarning, match="not kept in the log folder .*No space left"):
        trainer.fit(BoringModel())
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_training_leaves_its_last_checkpoint_in_its_log_folder(tmp_path: Path) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path, name=None),
        callbacks=[Checkpoint(dirpath=tmp_path / "checkpoints", filename="last")],
        max_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BoringModel())
    assert (tmp_path / "version_0" / "last.ckpt").samefile(tmp_path / "checkpoints" / "last.ckpt")
