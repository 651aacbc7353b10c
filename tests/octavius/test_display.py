"""Texts are shown without control characters, and make distinct names of files."""

from pathlib import Path

import pytest

from octavius.display import csv_cell, file_name, markdown_cell, table_cell, visible
from tests.octavius.odd_texts import ODD


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
def test_shown_texts(odd: str) -> None:
    for shown in (
        visible(odd),
        markdown_cell(odd),
        table_cell(odd),
        str(csv_cell(odd)),
    ):
        shown.encode()
        assert not {"\x1b", "\0", "\u202e", "\u200f"} & set(shown)
    assert len(visible(odd)) <= 4000
    assert "\n" not in visible(odd)


def test_names_of_files_are_distinct_and_stay_in_their_folder(tmp_path: Path) -> None:
    names = {file_name(odd): odd for odd in ODD}
    assert len(names) == len(ODD)
    for name in names:
        (tmp_path / f"{name}.jsonl").write_text("x")
        assert [*tmp_path.glob(f"{name}.jsonl")] == [tmp_path / f"{name}.jsonl"]
    assert len([*tmp_path.iterdir()]) == len(ODD)
    assert file_name("held_out/vqa") == "held_out.vqa" != file_name("held_out.vqa")
