"""Instruction files that the command writes are trained on, a step each, by the presets that the docs name."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules.instructions.build import build_instructions
from octavius.cli.main import main
from tests.tiny import write_models
from tests.tiny_clouds import write_cloud_models

TRAINER = {
    "logger": False,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 0,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cloud_models(write_models(tmp_path_factory.mktemp("models")))


def train(preset: str, models: Path, encoders: dict[str, Any], data: dict[str, Any]) -> None:
    """One step of a preset with tiny models on other data."""
    model = {"decoder": {"init_args": {"name": str(models / "language")}}, "encoders": encoders}
    few = {"workers": 0, "batch_size": 4}
    if preset == "3d.yaml":
        model["projectors"] = None
    overlay = {
        "trainer": TRAINER,
        "model": {"init_args": model},
        "data": {
            "class_path": "CloudInstructions" if "3d" in preset else "ImageInstructions",
            "init_args": few | data,
        },
        "evaluation": {"max_new_tokens": 3},
    }
    Path("mine.yaml").write_text(yaml.safe_dump(overlay))
    main(["fit", "--config", preset, "--config", "mine.yaml"])
    assert torch.load("checkpoints/last.ckpt", weights_only=True)["global_step"] == 1


def test_pictures(
    models: Path, miniature_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(miniature_root / "seen" / "coco", "data/coco")
    build_instructions("coco", Path("data/coco"), "train2017", progress=False)
    encoder = {"class_path": "ImageEncoder", "init_args": {"name": str(models / "clip"), "pretrained": None}}
    source = {"benchmark": "conversations", "folder": "coco", "split": "lamm_v2_train2017"}
    train("coco_smollm2.yaml", models, {"image": encoder}, {"root": "data", "train": [source]})


@pytest.mark.slow
def test_clouds(models: Path, few_rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(few_rooms / "seen", "data/scannet")
    build_instructions("scannet", Path("data/scannet"), "train", progress=False)
    scene = {"points": str(models / "points"), "proposals": str(models / "detector"), "cache": "roi-features"}
    source = {"benchmark": "scan2inst_clouds", "folder": "scannet", "split": "scan2inst_train"}
    val = {"benchmark": "scanqa", "folder": "scannet", "split": "val"}
    data = {"root": "data", "train": [source], "validate": [val]}
    train("3d.yaml", models, {"cloud": {"init_args": scene}}, data)
