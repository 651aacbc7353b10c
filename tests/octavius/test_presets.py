"""Presets are found by name from any folder, in a checkout and once installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from octavius import presets
from octavius.presets import find_checkpoint, find_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one preset and one shipped model; the current folder is an empty one beside it."""
    home = tmp_path / "checkout"
    for name in ("configs/2d.yaml", "configs/pretrain/clip.yaml", "checkpoints/miniature/language/lm.bin"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(presets, "__file__", str(home / "octavius" / "presets.py"))
    return home


@pytest.mark.parametrize("name", ["2d.yaml", "pretrain/clip.yaml", Path("2d.yaml")])
def test_a_bare_name_finds_the_shipped_config(stores: Path, name: str | Path) -> None:
    assert find_config(name) == stores / "configs" / name


def test_the_current_folder_wins_and_the_answer_outlives_it(
    stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Path.cwd() / "2d.yaml"
    mine.write_text("mine")
    found = find_config("2d.yaml")
    monkeypatch.chdir(stores)
    assert found.read_text() == "mine"


def test_what_a_run_left_in_this_folder_is_found_before_what_was_shipped(stores: Path) -> None:
    for folder in (Path.cwd() / "checkpoints", stores / "checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / "last.ckpt").write_text(str(folder))
    assert find_checkpoint("last.ckpt").read_text() == str(Path.cwd() / "checkpoints")


def test_an_absolute_path_is_taken_as_it_is(stores: Path) -> None:
    path = stores / "configs" / "pretrain" / "clip.yaml"
    assert find_config(str(path)) == path


def test_a_checkpoint_may_be_a_folder_and_a_config_may_not(stores: Path) -> None:
    assert find_checkpoint("miniature/language") == stores / "checkpoints" / "miniature" / "language"
    with pytest.raises(ValueError, match="no configuration named 'pretrain'"):
        find_config("pretrain")


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("typed", ["2d", "2D", "2d.yml", "2D.yaml"])
def test_an_unknown_config_names_the_known_ones_and_the_nearest(typed: str) -> None:
    with pytest.raises(ValueError, match=rf"'{typed}'.*did you mean '2d.yaml'\?") as error:
        find_config(typed)
    assert "2d.yaml, pretrain/clip.yaml" in str(error.value)
    assert str(Path.cwd()) in str(error.value)


@pytest.mark.usefixtures("stores")
def test_an_unknown_checkpoint_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'miniature/language'\?"):
        find_checkpoint("miniature/lnguage")


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("find", [find_config, find_checkpoint])
def test_an_empty_name_is_no_name(find: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="named ''"):
        find("")


def test_nothing_to_find_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(presets, "__file__", str(tmp_path / "octavius" / "presets.py"))
    with pytest.raises(ValueError, match="nothing in checkpoints/ yet"):
        find_checkpoint("last.ckpt")


def test_a_plain_install_ships_presets_and_weights_but_no_checkpoint_of_a_user(tmp_path: Path) -> None:
    source, target, elsewhere = tmp_path / "source", tmp_path / "target", tmp_path / "elsewhere"
    unwanted = shutil.ignore_patterns("__pycache__", "*.ckpt", "*.egg-info")
    for name in ("octavius", "datamodules", "configs", "checkpoints"):
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "README.md").write_text("Octavius")
    (source / "checkpoints" / "last.ckpt").write_text("a user's own")
    shipped = ["configs/one.yaml", "configs/pretrain/two.yaml", "checkpoints/miniature/three/weights"]
    for name in shipped:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    elsewhere.mkdir()

    install = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    _python([*install, "--target", str(target), str(source)], cwd=elsewhere)

    assert [name for name in shipped if not (target / "octavius" / name).is_file()] == []
    assert list(target.rglob("*.ckpt")) == []
    look = "from octavius.presets import *; print(find_config('pretrain/two.yaml').read_text())"
    assert _python(["-c", look], cwd=elsewhere, PYTHONPATH=str(target)) == "configs/pretrain/two.yaml\n"


def _python(arguments: list[str], cwd: Path, **variables: str) -> str:
    command = [sys.executable, *(["-m"] if arguments[0] == "pip" else []), *arguments]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
