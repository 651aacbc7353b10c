"""A folder is written once and whole: others are refused, failures leave nothing, the faster of two wins."""

import json
import multiprocessing
from pathlib import Path

import pytest

from datamodules.miniature.once import mapping, once

NAME, RECORD = "made.json", {"version": 1, "seed": 0}


def fill(home: Path) -> None:
    (home / "deep").mkdir(parents=True)
    (home / "deep" / "file").write_text("content")


def test_a_folder_appears_whole_with_its_record(tmp_path: Path) -> None:
    root = once(tmp_path / "a" / "root", NAME, RECORD, fill)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["deep", "deep/file", NAME]
    assert json.loads((root / NAME).read_text()) == RECORD
    assert [path.name for path in root.parent.iterdir()] == ["root"]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    root = once(tmp_path / "root", NAME, RECORD, fill)
    (root / "deep" / "file").write_text("changed")
    once(root, NAME, RECORD, fill)
    assert (root / "deep" / "file").read_text() == "changed"
    (tmp_path / "empty").mkdir()
    once(tmp_path / "empty", NAME, RECORD, fill)
    assert (tmp_path / "empty" / NAME).is_file()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ('{"version": 2, "seed": 0}', r"holds a miniature of other settings\.\nfound:  \{'version': 2"),
        ("{", r"made\.json is damaged"),
        (None, r"is not a miniature: it holds no made\.json\. Choose another root"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, found: str | None, words: str) -> None:
    (tmp_path / "notes").write_text("mine")
    if found is not None:
        (tmp_path / NAME).write_text(found)
    with pytest.raises(ValueError, match=words):
        once(tmp_path, NAME, RECORD, fill)
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(home: Path) -> None:
        fill(home)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        once(tmp_path / "deep" / "root", NAME, RECORD, fail)
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize("seed", [0, 1])
def test_the_faster_of_two_wins(tmp_path: Path, seed: int) -> None:
    def overtaken(home: Path) -> None:
        fill(home)
        once(tmp_path / "root", NAME, {**RECORD, "seed": seed}, fill)

    if seed == 0:
        once(tmp_path / "root", NAME, RECORD, overtaken)
    else:
        with pytest.raises(ValueError, match="of other settings"):
            once(tmp_path / "root", NAME, RECORD, overtaken)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert json.loads((tmp_path / "root" / NAME).read_text())["seed"] == seed


def test_a_place_that_cannot_be_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError, match="not here"):
        once(tmp_path / "root", NAME, RECORD, fill)
    assert list(tmp_path.iterdir()) == []


def process_and_square(value: int) -> tuple[str, int]:
    return multiprocessing.current_process().name, value**2


@pytest.mark.parametrize(("processes", "few", "here"), [(1, 0, True), (2, 100, True), (2, 5, False)])
def test_mapping_keeps_the_order_on_one_process_or_two(processes: int, few: int, here: bool) -> None:
    with mapping(processes, 20, few) as run:
        found = list(run(process_and_square, range(20)))
    assert [value for _, value in found] == [value**2 for value in range(20)]
    assert all((name == "MainProcess") == here for name, _ in found)
