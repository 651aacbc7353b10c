"""Instruction files: written with the record of their settings, and never over those of other settings."""

import json
from pathlib import Path

import pytest

from datamodules.instructions.files import (
    record_of,
    refuse_other_settings,
    rejected_of,
    write,
    write_rejected,
)

ITEMS = [{"id": 1, "text": "a \u2028 b"}, {"id": 2}]


def test_items_are_written_with_their_settings_and_may_be_written_again(tmp_path: Path) -> None:
    out, record = tmp_path / "a.json", {"seed": 3}
    refuse_other_settings(out, record)
    write(out, ITEMS, record)
    assert json.loads(out.read_text()) == ITEMS
    assert out.read_text().count("\n") == len(ITEMS) + 2
    assert json.loads(record_of(out).read_text()) == record
    refuse_other_settings(out, record)
    write_rejected(out, ITEMS)
    assert [json.loads(line) for line in rejected_of(out).read_text().split("\n")[:-1]] == ITEMS


def test_other_settings_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    write(out, ITEMS, {"seed": 3})
    with pytest.raises(ValueError, match="was made with other settings"):
        refuse_other_settings(out, {"seed": 4})
    record_of(out).write_text("{")
    with pytest.raises(ValueError, match=r"no readable a\.record\.json beside it"):
        refuse_other_settings(out, {"seed": 3})
    with pytest.raises(ValueError, match=r"should name a \.json file"):
        refuse_other_settings(tmp_path / "a.txt", {})
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        refuse_other_settings(tmp_path / "gone" / "a.json", {})
