"""Which configuration a checkpoint is loaded with: the one inside it, or the edited file next to it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octavius.checkpoint.saving import CheckpointFiles
from octavius.checkpoint_format.configuration import Configuration, configuration_of
from octavius.checkpoint_format.weights import read_checkpoint


def save(path: Path, configuration: str) -> None:
    CheckpointFiles(configuration).save_checkpoint({"state_dict": {"a": torch.zeros(2)}}, path)


def found(path: Path) -> Configuration:
    configuration = configuration_of(path, read_checkpoint(path))
    assert configuration is not None
    return configuration


def content(path: Path) -> Any:
    return yaml.safe_load(found(path).text)


def test_the_file_takes_precedence_and_can_be_edited(tmp_path: Path) -> None:
    path, file = tmp_path / "a.ckpt", tmp_path / "a.yaml"
    save(path, "lr: 1\n")
    assert (content(path), found(path).file, found(path).note) == ({"lr": 1}, file, "")
    file.write_text(file.read_text().replace("lr: 1", "lr: 2"))
    assert (content(path), found(path).file) == ({"lr": 2}, file)
    assert "was edited after a.ckpt was saved" in found(path).note


def test_the_header_of_an_earlier_version_is_known(tmp_path: Path) -> None:
    path, file = tmp_path / "a.ckpt", tmp_path / "a.yaml"
    save(path, "lr: 1\n")
    number = file.read_text().split()[2]
    earlier = f"# Configuration {number} of the checkpoint beside it: while this line stands, what follows counts.\n"
    file.write_text(f"{earlier}lr: 2\n")
    assert (content(path), found(path).file) == ({"lr": 2}, file)


def test_without_the_file_the_stored_configuration_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(path, "lr: 1\n")
    (tmp_path / "a.yaml").rename(tmp_path / "elsewhere.yaml")
    assert (content(path), found(path).file) == ({"lr": 1}, None)


def test_a_copied_pair_keeps_its_edits(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", "lr: 1\n")
    for suffix in (".ckpt", ".yaml"):
        (tmp_path / "a").with_suffix(suffix).rename((tmp_path / "best").with_suffix(suffix))
    assert found(tmp_path / "best.ckpt").file == tmp_path / "best.yaml"


@pytest.mark.parametrize("old", ["lr: 1\n", "# a note\nlr: 1\n", ""])
def test_the_file_of_another_checkpoint_is_ignored(tmp_path: Path, old: str) -> None:
    save(tmp_path / "a.ckpt", "lr: 2\n")
    (tmp_path / "a.yaml").write_text(old)
    assert content(tmp_path / "a.ckpt") == {"lr": 2}
    assert "to use the file, add --config" in found(tmp_path / "a.ckpt").note
    save(tmp_path / "b.ckpt", "lr: 1\n")
    (tmp_path / "b.yaml").replace(tmp_path / "a.yaml")
    assert content(tmp_path / "a.ckpt") == {"lr": 2}


def test_a_checkpoint_of_an_earlier_version_has_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    assert configuration_of(path, read_checkpoint(path)) is None
    (tmp_path / "a.yaml").write_text("lr: 1\n")
    assert content(path) == {"lr": 1}
    save(path, "lr: 2\n")  # the next save makes both new
    assert (content(path), found(path).file) == ({"lr": 2}, tmp_path / "a.yaml")


def test_a_file_that_people_wrote_is_not_replaced_or_removed(tmp_path: Path) -> None:
    mine = tmp_path / "2d.yaml"
    mine.write_text("lr: 5  # my own settings\n")
    for lr in (1, 2):
        save(tmp_path / "2d.ckpt", f"lr: {lr}\n")
        assert mine.read_text() == "lr: 5  # my own settings\n"
        assert content(tmp_path / "2d.ckpt") == {"lr": lr}
    CheckpointFiles("").remove_checkpoint(tmp_path / "2d.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["2d.yaml"]


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", "lr: 1\n")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.yaml is not valid UTF-8"):
        found(tmp_path / "a.ckpt")
