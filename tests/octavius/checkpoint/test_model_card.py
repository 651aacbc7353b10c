"""The model card says what a folder holds, how to load it, and how its checkpoint scored."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from octavius.checkpoint.model_card import (
    is_local,
    last_test,
    located,
    scores,
    table,
    training_sets,
    write_card,
)
from octavius.checkpoint_format.configuration import Configuration
from octavius.runs import facts, history
from octavius.runs.history import Measurement

CONFIG = """
data: {init_args: {train: [{benchmark: coco_detection, split: train2017, weight: 8}, {benchmark: celeba_hair}]}}
"""


def record_test(folder: Path, checkpoint: Path, started: float, status: str = facts.FINISHED) -> None:
    """Records a test of a checkpoint, `started` seconds after it was saved."""
    folder.mkdir(parents=True)
    found = facts.start("test", ["test"], 0, 1)
    os.utime(checkpoint, (10**9, 10**9))
    when = f"2001-09-09T01:46:{40 + started:02.0f}+00:00"
    facts.write(folder, found | {"status": status, "started": when, "checkpoint": {"path": str(checkpoint)}})
    one = Measurement("test", 1, 10, "seen/vqa", "vqa", "standard", "acc1", True, 5, 0.6, 0.25, 0.5, 0.75)
    history.append(
        folder, [one, Measurement("test", 1, 10, "seen/vqa", "vqa", "standard", "acc1_exact", False, 5, 0.1)]
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Any:
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    return SimpleNamespace(path=tmp_path / "last.ckpt", configuration=Configuration(CONFIG, "last.yaml"))


@pytest.mark.parametrize("format", ["hf", "peft", "experts"])
@pytest.mark.parametrize("tested", [True, False])
def test_a_card(tmp_path: Path, checkpoint: Any, format: str, tested: bool) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    out.mkdir()
    runs.mkdir()
    if tested:
        record_test(runs / "version_0", checkpoint.path, 5)
        (runs / "version_0" / "routing_test.png").write_bytes(b"a figure")
    manifest = {
        "what": "a LoRA",
        "format": format,
        "base": "meta-llama/Llama-2-7b",
        "loaders": ("AutoModelForCausalLM", "AutoTokenizer"),
        "question": "What | is this?",
        "task": None,
        "gate": None if format == "experts" else [0.0, 0.75, 0.25],
        "versions": {"octavius": "1.0"},
    }
    write_card(out, manifest, checkpoint, "my-model", runs)
    card = ModelCard.load(out / "README.md")
    assert card.data.base_model == "meta-llama/Llama-2-7b"
    assert "mixture-of-experts" in (card.data.tags or [])
    assert "| `coco_detection` | train2017 | 8 |\n| `celeba_hair` |  | 1 |" in card.text
    assert ("1 (0.75), 2 (0.25), as the gate weights them for: What | is this?" in card.text) is (
        format != "experts"
    )
    assert ("| seen/vqa | acc1 | standard | 0.600 | 0.500 to 0.750 | 0.250 | 5 |" in card.text) is tested
    assert (out / "routing_test.png").is_file() is tested
    assert "acc1_exact" not in card.text


def test_only_a_finished_test_of_this_very_checkpoint_counts(tmp_path: Path, checkpoint: Any) -> None:
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"other")
    for name, path, started, status in (
        ("of another", other, 9, facts.FINISHED),
        ("unfinished", checkpoint.path, 9, facts.STOPPED),
        ("right", checkpoint.path, 5, facts.FINISHED),
        ("earlier", checkpoint.path, 3, facts.FINISHED),
    ):
        record_test(tmp_path / "runs" / name, path, started, status)
    assert last_test(checkpoint.path, tmp_path / "runs") == tmp_path / "runs" / "right"
    os.link(checkpoint.path, tmp_path / "kept.ckpt")  # as in the log folder of the training
    assert last_test(tmp_path / "kept.ckpt", tmp_path / "runs") == tmp_path / "runs" / "right"
    os.utime(checkpoint.path)  # saved anew since
    assert last_test(checkpoint.path, tmp_path / "runs") is None
    assert last_test(checkpoint.path, tmp_path / "no runs") is None


@pytest.mark.parametrize(
    ("sections", "first"),
    [
        ({}, ["``", "", ""]),
        ({"data": {"class_path": "datamodules.Conventions"}}, ["`Conventions`", "", ""]),
        ({"data": {"init_args": {"train": [{"name": "mine", "benchmark": "cifar10"}]}}}, ["`mine`", "", "1"]),
    ],
)
def test_training_sets_of_any_data_module(sections: dict[str, Any], first: list[str]) -> None:
    assert training_sets(sections) == [first]


def test_tables_hold_one_line_a_row(tmp_path: Path) -> None:
    assert table(["a"], [["x|y\nz"]]).count("\n") == 2
    assert scores(tmp_path) == []


@pytest.mark.parametrize(
    ("base", "local"), [("miniature/language", True), (".", True), ("meta-llama/Llama-2-7b", False)]
)
def test_only_models_of_the_hub_are_named_as_base(base: str, local: bool) -> None:
    assert is_local(base) is local
    assert located(base) == base or Path(located(base)).is_absolute()
