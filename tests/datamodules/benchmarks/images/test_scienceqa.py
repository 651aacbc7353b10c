"""ScienceQA's two JSON files become multiple-choice samples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images.scienceqa import read, read_reasoned
from octavius.instruction.sample import Choice, Media, Sample
from tests.datamodules.benchmarks.bad_items import kept

Problem = dict[str, Any]


def problem(**values: Any) -> Problem:
    usual = {
        "question": "Which is highest? ",
        "choices": ["hill", "peak"],
        "answer": 1,
        "hint": "",
        "image": "image.png",
        "topic": "geography",
        "split": "test",
    }
    return {**usual, **values}


def write(root: Path, problems: dict[str, Problem], images: str = "images", **splits: list[str]) -> Path:
    for split in ("train", "val", "test"):
        for pid in problems:
            (root / images / split / pid).mkdir(parents=True, exist_ok=True)
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits))
    return root


@pytest.mark.parametrize("images", ["images", "."])
def test_problems_with_an_image_become_samples(tmp_path: Path, images: str) -> None:
    problems = {
        "4": problem(),
        "5": problem(image=None),
        "6": problem(hint=" Look at the map.\n", choices=["a", "b ", "c"], answer=0, topic=""),
        "7": problem(split="val"),
    }
    write(tmp_path, problems, images, test=["6", "5", "4"], minival=["7"])
    folder = tmp_path / images
    first = Sample(
        "6",
        "vqa",
        "scienceqa",
        {"image": Media(path=folder / "test" / "6" / "image.png")},
        "Which is highest?\nContext: Look at the map.",
        Choice(("a", "b", "c"), 0),
    )
    second = Sample(
        "4",
        "vqa",
        "scienceqa",
        {"image": Media(path=folder / "test" / "4" / "image.png")},
        "Which is highest?",
        Choice(("hill", "peak"), 1),
        group="geography",
    )
    assert read(tmp_path, "test") == [first, second]
    [mini] = read(tmp_path, "minival")
    assert mini.media["image"].path == folder / "val" / "7" / "image.png"


def drop(key: str) -> Callable[[Problem], None]:
    def apply(values: Problem) -> None:
        del values[key]

    return apply


BAD = {
    "no question": (drop("question"), "the key 'question' is missing"),
    "empty question": (lambda p: p.update(question=" "), "'question' is empty"),
    "no choices": (drop("choices"), "the key 'choices' is missing"),
    "one choice": (lambda p: p.update(choices=["a"]), "'choices' should hold at least 2 strings, found 1"),
    "empty choice": (lambda p: p.update(choices=["a", ""]), r"'choices'\[1\] is empty"),
    "answer too high": (lambda p: p.update(answer=2), "the index of a choice, should be 0 to 1, found 2"),
    "answer below": (lambda p: p.update(answer=-1), "the index of a choice, should be 0 to 1, found -1"),
    "answer a letter": (lambda p: p.update(answer="B"), "'answer' should be a whole number, found 'B'"),
    "escape": (
        lambda p: p.update(image="../../../a.png"),
        r"'test/4/\.\./\.\./\.\./a.png' leads out of the data",
    ),
    "escape by split": (lambda p: p.update(split="../.."), r"'\.\./\.\./4/image.png' leads out of the data"),
    "no folder": (
        lambda p: p.update(split="dev"),
        r"the folder .*dev/4, which should hold 'image.png', cannot be",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_problems(tmp_path: Path, case: str) -> None:
    spoil, message = BAD[case]
    bad = problem()
    spoil(bad)
    write(tmp_path, {"4": bad, "5": problem()}, test=["4", "5"])
    samples = kept(read, tmp_path, "test", r"problems\.json, problem '4': .*" + message)
    assert [sample.id for sample in samples] == ["5"]


def test_solutions_are_reasons_where_they_are_asked_for(tmp_path: Path) -> None:
    problems = {"1": problem(solution=" The peak is the top.\n"), "2": problem(solution=""), "3": problem()}
    write(tmp_path, problems, test=["1", "2", "3"])
    plain, reasoned = read(tmp_path, "test"), read_reasoned(tmp_path, "test")
    assert [sample.gold.reason for sample in reasoned] == ["The peak is the top.", "", ""]
    assert [sample.gold.reason for sample in plain] == ["", "", ""]
    assert [sample.id for sample in plain] == [sample.id for sample in reasoned] == ["1", "2", "3"]


def test_a_listed_problem_must_exist(tmp_path: Path) -> None:
    write(tmp_path, {"4": problem()}, test=["9"])
    with pytest.raises(
        ValueError, match=r"problem '9': it is listed in pid_splits\.json, but missing in problems\.json"
    ):
        read(tmp_path, "test")


def test_an_unknown_split_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"4": problem()}, test=["4"], minitest=["4"])
    with pytest.raises(
        ValueError, match=r"pid_splits\.json has no split 'dev'; it has \['minitest', 'test'\]"
    ):
        read(tmp_path, "dev")


@pytest.mark.parametrize("missing", ["problems.json", "pid_splits.json"])
def test_missing_files_are_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, {"4": problem()}, test=["4"])
    (tmp_path / missing).unlink()
    with pytest.raises(DatasetNotFoundError, match=missing):
        read(tmp_path, "test")


def test_missing_images_are_named(tmp_path: Path) -> None:
    write(tmp_path, {}, test=[])
    with pytest.raises(DatasetNotFoundError, match="images/ and train/ and val/ and test/ not found"):
        read(tmp_path, "test")
