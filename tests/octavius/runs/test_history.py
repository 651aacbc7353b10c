"""The scores of a run, read again after any interruption."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavius.runs.history import FILE, Measurement, append, last, read

ONE = Measurement("val", 1, 10, "seen/vqa", "vqa", "standard", "acc1", True, 5, 0.6, 0.2)


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    two = replace(ONE, step=20, low=0.1, high=0.9, chance=None)
    append(tmp_path, [ONE])
    append(tmp_path, [two])
    assert read(tmp_path) == [ONE, two]


def test_a_line_that_a_crash_cut_is_ignored_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    append(tmp_path, [ONE, ONE])
    whole = (tmp_path / FILE).read_text()
    for size in range(len(whole)):
        (tmp_path / FILE).write_text(whole[:size])
        assert read(tmp_path) == [ONE] * whole[:size].count("\n")
    for line in ("{}", "[1]", "1", "x", "{" * 99_999, '{"stage": "val", "more": 1}'):
        (tmp_path / FILE).write_text(f"{line}\n")
        with pytest.raises(ValueError, match=r"history\.jsonl, line 1: expected a score"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("value", "0.5"), ("value", None), ("low", [1]), ("step", True), ("task", 5)]
)
def test_a_value_of_another_type_is_named(tmp_path: Path, key: str, value: Any) -> None:
    append(tmp_path, [ONE, replace(ONE, **{key: value})])
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2: .* is of the wrong type"):
        read(tmp_path)


def test_the_last_evaluation_is_the_test_if_there_is_one() -> None:
    later = [replace(ONE, step=20), replace(ONE, step=20, metric="acc1_exact")]
    assert last([ONE, *later]) == later
    test = replace(ONE, stage="test")
    assert last([ONE, test, *later]) == [test]
    assert last([]) == []


@pytest.mark.parametrize("key", ["value", "low", "samples"])
def test_a_number_beyond_all_bounds_is_named(tmp_path: Path, key: str) -> None:
    append(tmp_path, [replace(ONE, **{key: 10**400})])
    with pytest.raises(ValueError, match=r"history\.jsonl, line 1: .* is too large"):
        read(tmp_path)


def test_a_file_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"history\.jsonl cannot be read"):
        read(tmp_path)
