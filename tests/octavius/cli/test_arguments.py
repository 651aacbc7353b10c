"""Arguments in their order of precedence, with names of presets and checkpoints resolved."""

from pathlib import Path

import pytest
import torch

from octavius.checkpoint.saving import CheckpointFiles
from octavius.cli.arguments import called, named, resolve, shown


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint in the current folder's `checkpoints`, and a configuration."""
    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    Path("own.yaml").write_text("lr: 2\n")
    CheckpointFiles("lr: 1\n").save_checkpoint({"state_dict": {"a": torch.zeros(2)}}, "checkpoints/last.ckpt")
    return tmp_path / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    "form", [["--ckpt", "last.ckpt"], ["--ckpt=last.ckpt"], ["--ckpt_path", "last.ckpt"]]
)
def test_the_checkpoints_configuration_comes_first_and_the_command_line_last(
    checkpoint: Path, form: list[str]
) -> None:
    arguments = resolve(["--lr", "3", *form, "-c", "own.yaml", "--trust"])
    assert arguments.trusted
    assert arguments.checkpoint is not None
    first, text, *rest = arguments.resolved
    assert (first, text.splitlines()[-1]) == ("--config", "lr: 1")
    assert rest[0] == "--config"
    assert Path(rest[1]).name == "own.yaml"
    assert rest[2:4] == ["--lr", "3"]
    assert (rest[4], Path(rest[5]).resolve()) == ("--ckpt", checkpoint)
    assert called(text) == "the checkpoint's own"
    assert called(rest[1]) == "own.yaml"


def test_a_checkpoint_without_a_configuration_needs_one(checkpoint: Path) -> None:
    torch.save({"state_dict": {}}, checkpoint)
    checkpoint.with_suffix(".yaml").unlink()
    with pytest.raises(ValueError, match="or name one with --config"):
        resolve(["--ckpt", "last.ckpt"])
    assert resolve(["--ckpt", "last.ckpt", "--config", "own.yaml"]).untrusted is None


def test_paths_are_shown_as_short_as_they_can_be_named(checkpoint: Path, tmp_path: Path) -> None:
    assert named(checkpoint) == Path("last.ckpt")
    assert shown(checkpoint) == Path("checkpoints/last.ckpt")
    assert named(tmp_path / "runs" / "a.ckpt") == Path("runs/a.ckpt")
    assert shown(Path("/elsewhere/a.ckpt")) == Path("/elsewhere/a.ckpt")


def test_other_words_stay_in_their_order() -> None:
    words = ["--trainer.max_epochs=3", "--model.init_args.lr", "0.1", "--data.init_args.root", "a=b"]
    assert resolve(words).resolved == words
