"""Checkpoints that are damaged, changed or of another make: each is read right, or refused in one message."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octavius.checkpointing.content import FORMAT_KEY
from octavius.cli import main
from tests.tiny import options, refused, settings, write_models

TEST = ["test", "--ckpt", "last.ckpt"]
ASK = ["predict", "--question", "What is it?"]


@pytest.fixture(scope="module")
def trained(miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its configuration; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    models = write_models(tmp_path_factory.mktemp("models"))
    (folder / "small.yaml").write_text(yaml.safe_dump(settings(models, miniature_root)))
    place = options(checkpoint__dirpath=folder / "kept", data__init_args__validate="[]")
    main(["fit", "--config", str(folder / "small.yaml"), *place])
    return folder / "kept"


@pytest.fixture
def last(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`checkpoints/last.ckpt` in the current folder, to be changed."""
    shutil.copytree(trained, tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return Path("checkpoints/last.ckpt")


def resave(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Saves a checkpoint again after a change, as an earlier version would: without a checksum."""
    content = torch.load(path, weights_only=True)
    del content[FORMAT_KEY]
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("words", "advice"), [(TEST, "or name one with --config"), (ASK, "copy it too")], ids=["test", "predict"]
)
def test_an_earlier_checkpoint_without_its_configuration_is_refused(
    last: Path, words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    resave(last, lambda content: content.pop("configuration"))
    last.with_suffix(".yaml").unlink()
    text = refused(words, capsys)
    assert "no configuration beside" in text
    assert "last.yaml" in text
    assert advice in text


def test_a_checkpoint_alone_is_enough(last: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last.with_suffix(".yaml").unlink()
    main(TEST)
    main(ASK)
    assert "cider" in capsys.readouterr().out
