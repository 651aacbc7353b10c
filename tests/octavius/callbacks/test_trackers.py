"""Figures, tables, histograms and settings in each tracker; MLflow and trackio where they are installed."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from tensorboard import data_compat
from tensorboard.util import tensor_util

from octavius.callbacks.board import log_folder, show, show_histogram, show_settings, show_table
from octavius.callbacks.trackio_logger import TrackioLogger

EDGES = np.linspace(0, 1, 5)


def show_all(logger: Logger, folder: Path) -> L.Trainer:
    """Shows one of each kind at step 0."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", default_root_dir=folder, logger=logger, **quiet)
    figure = Figure(figsize=(1, 1), dpi=50)
    figure.subplots().plot([0, 1])
    show_settings(trainer, {"model.lr": 0.1, "data": "Images"}, ["train/loss"])
    show(trainer, figure, "detections/val", folder / "detections.png")
    show_table(trainer, "answers/val/set one", ["question", "predicted"], [["Which?", "a | b"]])
    show_histogram(trainer, "routing/val/vqa/expert_0", np.array([0.1, 0.9, 0.95]), EDGES)
    logger.log_metrics({"train/loss": 1.5}, 0)
    return trainer


def test_tensorboard(tmp_path: Path, events: Any) -> None:
    logger = TensorBoardLogger(tmp_path, "log", "now")
    show_all(logger, tmp_path)
    logger.experiment.flush()
    log = events(tmp_path / "log" / "now")
    assert log.Tags()["images"] == ["detections/val"]
    assert log.Tags()["tensors"] == ["answers/val/set one/text_summary"]
    assert log.Histograms("routing/val/vqa/expert_0")[0].histogram_value.bucket == [1, 0, 0, 2]
    assert log.Tags()["scalars"] == ["train/loss"]
    assert shown_bins([0.9, 0.95], tmp_path) == [(0, 0.25, 0), (0.25, 0.5, 0), (0.5, 0.75, 0), (0.75, 1, 2)]
    assert shown_bins([0.3], tmp_path) == [(0, 0.25, 0), (0.25, 0.5, 1), (0.5, 0.75, 0), (0.75, 1, 0)]
    hyperparameters = log.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.lr" in hyperparameters


def shown_bins(values: list[float], folder: Path) -> list[tuple[float, ...]]:
    """Left and right edges and rounded counts of the bins, as TensorBoard's web page gets them."""
    seen = list[Any]()
    logger = TensorBoardLogger(folder, "bins", str(values))
    logger.experiment._get_file_writer().add_summary = lambda summary, *_: seen.append(summary)
    trainer = L.Trainer(accelerator="cpu", logger=logger, enable_checkpointing=False)
    show_histogram(trainer, "h", np.array(values), EDGES)
    [value] = seen[0].value
    bins = tensor_util.make_ndarray(data_compat.migrate_value(value).tensor)
    return [(*row[:2], round(row[2])) for row in bins.tolist()]


def test_wandb_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B itself is not tried: its logger's methods are called with what they take."""
    seen = list[tuple[Any, ...]]()

    class Stand(WandbLogger):
        version = "abc"

        def __init__(self) -> None:
            self._save_dir = str(tmp_path)

        def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
            seen.append((key, images[0].shape, step))

        def log_table(
            self, key: str, columns: Any = None, data: Any = None, step: Any = None, **_: Any
        ) -> None:  # type: ignore[override]
            seen.append((key, columns, data, step))

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            seen.append((metrics, step))

        def log_hyperparams(self, params: Any) -> None:  # type: ignore[override]
            seen.append((params,))

    class Wandb:
        Histogram = staticmethod(lambda np_histogram: np_histogram[0].tolist())

    monkeypatch.setitem(__import__("sys").modules, "wandb", Wandb)
    trainer = show_all(Stand(), tmp_path)
    assert seen == [
        ({"model.lr": 0.1, "data": "Images"},),
        ("detections/val", (50, 50, 3), 0),
        ("answers/val/set one", ["question", "predicted"], [["Which?", "a | b"]], 0),
        ({"routing/val/vqa/expert_0": [1, 0, 0, 2]}, 0),
        ({"train/loss": 1.5}, 0),
    ]
    assert log_folder(trainer) == tmp_path / "abc", "each run has a folder of its own"


def test_mlflow(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    logger = MLFlowLogger(
        "octavius", tracking_uri=f"sqlite:///{tmp_path}/runs.db", artifact_location=str(tmp_path)
    )
    trainer = show_all(logger, tmp_path)
    client, run = logger.experiment, logger.run_id
    assert client.get_run(run).data.params == {"model.lr": "0.1", "data": "Images"}
    assert client.get_run(run).data.metrics == {"train/loss": 1.5}
    folder = tmp_path / run / "artifacts"
    assert [file.suffix for file in (folder / "images").iterdir() if file.suffix == ".png"]
    table = json.loads((folder / "answers/val/set one/step_0.json").read_text())
    assert table == {"columns": ["question", "predicted"], "data": [["Which?", "a | b"]]}
    histogram = json.loads((folder / "routing/val/vqa/expert_0/step_0.json").read_text())
    assert histogram == {"edges": EDGES.tolist(), "counts": [1, 0, 0, 2]}
    assert log_folder(trainer) is None or str(run) in str(log_folder(trainer))


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    logger = TrackioLogger("octavius-test", "first", str(tmp_path / "runs"))
    trainer = show_all(logger, tmp_path)
    assert log_folder(trainer) == tmp_path / "runs" / "first"
    logger.finalize("success")
    (run,) = trackio.Api().runs("octavius-test")
    assert run.config["model.lr"] == 0.1
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    found = {key for row in storage.get_logs("octavius-test", "first") for key in row}
    assert {"train/loss", "detections/val", "answers/val/set one", "routing/val/vqa/expert_0"} <= found
