"""ScanQA's questions become samples about a whole scan, with every accepted answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.scanqa import kind_of, read, read_reasoned, reason_of
from octavius.instruction.sample import Media, References, Sample
from tests.datamodules.benchmarks.bad_items import kept
from tests.datamodules.benchmarks.scan_files import (
    AGGREGATION,
    CHAIR,
    MESH,
    NAME,
    SEGMENTS,
    TABLE,
    ply,
    write_scan,
)


def record(number: int, **changes: Any) -> dict[str, Any]:
    """One entry, with the keys of the official file."""
    usual = {
        "scene_id": NAME,
        "object_ids": [2],
        "object_names": ["chair"],
        "question_id": f"val-scene0000-{number}",
        "question": " What color is the chair? ",
        "answers": ["brown ", "dark brown", "brown"],
    }
    return {**usual, **changes}


def write(root: Path, *records: Any, name: str = "ScanQA_v1.0_val.json", annotated: bool = False) -> Path:
    folder = root / "scans" / NAME
    if not folder.is_dir():
        write_scan(root)
    for file in () if annotated else (SEGMENTS, AGGREGATION):  # no question needs them
        (folder / file.format(NAME)).unlink(missing_ok=True)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(list(records)))
    return root


@pytest.mark.parametrize("folder", [".", "qa"])
def test_questions_become_samples(tmp_path: Path, folder: str) -> None:
    write(tmp_path, record(0), record(1, question="Where is it?"), name=f"{folder}/ScanQA_v1.0_val.json")
    samples = read(tmp_path, "val")
    assert samples[0] == Sample(
        "val-scene0000-0",
        "vqa3d",
        "scanqa",
        {"cloud": Media(path=tmp_path / "scans" / NAME / MESH.format(NAME))},
        "What color is the chair?",
        References(("brown", "dark brown"), NAME),
        group="colour",
    )
    assert [sample.group for sample in samples] == ["colour", "place"]


def test_reasons_name_the_objects_that_a_question_is_about(tmp_path: Path) -> None:
    count = {"question": "How many?", "answers": ["2"], "object_names": ["trash_can", "trash can"]}
    bare = record(2)
    del bare["object_names"]
    write(tmp_path, record(0), record(1, **count), bare)
    samples = read_reasoned(tmp_path, "val")
    assert [sample.gold.reason for sample in samples] == ["chair brown", "trash can, trash can 2", ""]
    plain = read(tmp_path, "val")
    assert all(sample.gold.reason == "" for sample in plain)
    assert [sample.gold.texts for sample in plain] == [sample.gold.texts for sample in samples]


@pytest.mark.parametrize(
    ("names", "answer", "reason"),
    [
        (["chair"], "red", "chair red"),
        (["desk", "box"], "desk", "desk, box desk"),
        (["chair"], "brown chair", ""),
        (["chair"], "Yes", ""),
        (["chair"], "no", ""),
        ([], "0", ""),
    ],
)
def test_a_reason_is_told_where_it_tells_something(names: list[str], answer: str, reason: str) -> None:
    assert reason_of(names, answer) == reason


def test_an_annotated_scan_brings_its_boxes(tmp_path: Path) -> None:
    write_scan(tmp_path)
    [sample] = read(write(tmp_path, record(0), annotated=True), "val")
    assert sample.media["cloud"].objects == tuple(pytest.approx(thing.box) for thing in (TABLE, CHAIR))


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("What is on the table?", "object"),
        ("Which chair is closest to the door?", "object"),
        ("How many chairs are there?", "number"),
        ("How is the room lit?", "other"),
        ("What is the colour of the chair?", "colour"),
        ("what COLOR is it", "colour"),
        ("What coloring is it?", "object"),
        ("Where", "place"),
        ("Is there a chair?", "yes or no"),
        ("Isolated chairs stand where?", "other"),
        ("", "other"),
    ],
)
def test_kinds_of_questions(question: str, kind: str) -> None:
    assert kind_of(question) == kind


BAD: dict[str, tuple[Any, str]] = {
    "no answers": (
        {"scene_id": NAME, "question_id": "a", "question": "Where?"},
        "the key 'answers' is missing",
    ),
    "empty answers": (record(0, answers=[]), "'answers' should hold at least 1 string, found 0"),
    "an empty answer": (record(0, answers=["a", " "]), r"'answers'\[1\] is empty"),
    "a number for an answer": (record(0, answers=[2]), r"'answers'\[0\] should be a string, found 2"),
    "a number for a name": (
        record(0, object_names=["chair", 3]),
        r"'object_names'\[1\] should be a string, found 3",
    ),
    "no question": (record(0, question=""), "'question' is empty"),
    "no id": (record(0, question_id=7), "'question_id' should be a string, found 7"),
    "unknown scan": (record(0, scene_id="scene0009_00"), "the folder .*scene0009_00, which should hold"),
    "escape": (record(0, scene_id="../../etc"), "leads out of the data folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_entries(tmp_path: Path, case: str) -> None:
    bad, message = BAD[case]
    write(tmp_path, bad, record(1))
    [sample] = kept(read, tmp_path, "val", r"ScanQA_v1\.0_val\.json, item 0: .*" + message)
    assert sample.id == "val-scene0000-1"


def test_a_broken_scan_is_found_before_any_training(tmp_path: Path) -> None:
    write(tmp_path, record(0), record(1))
    (tmp_path / "scans" / NAME / MESH.format(NAME)).write_bytes(ply([(0, 0, 0), (float("nan"), 1, 2)]))
    with pytest.raises(ValueError, match=r"item 0: the scan .* 1 of 2 points are NaN or infinite"):
        read(tmp_path, "val")
    with pytest.warns(UserWarning, match="2 bad items left out"):
        assert read(tmp_path, "val", bad="skip") == []


def test_splits_without_answers_are_told(tmp_path: Path) -> None:
    bare = {key: value for key, value in record(0).items() if key != "answers"}
    write(tmp_path, bare, name="ScanQA_v1.0_test_wo_obj.json")
    with pytest.raises(ValueError, match=r"holds no 'answers': .* not published; take the split val"):
        read(tmp_path, "test_wo_obj")
    with pytest.raises(DatasetNotFoundError, match=r"ScanQA_v1\.0_dev\.json and qa/ScanQA_v1\.0_dev\.json"):
        read(tmp_path, "dev")
