"""Answers of an interrupted run are recovered line by line, whatever else is in their file."""

from pathlib import Path

import pytest

from octavius.cli.benchmarks import claim, mend

WHOLE = [b'{"id": "1"}\n', b'{"id": "2"}\n']


@pytest.mark.parametrize(
    "damage",
    [
        b'{"id": "3',
        b"\0" * 4096,
        b"\0" * 10 + b"\n",
        b'{"id": \xff"3"}\n',
        b"[" * 100_000 + b"\n",
        b"5\n",
        b"\n",
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_damaged_lines_go_and_whole_ones_stay(tmp_path: Path, damage: bytes, place: int) -> None:
    lines = list(WHOLE)
    lines.insert(place, damage if damage.endswith(b"\n") or place == 2 else damage + b"\n")
    (tmp_path / "a.part").write_bytes(b"".join(lines))
    mend(tmp_path / "a.part")
    assert (tmp_path / "a.part").read_bytes() == b"".join(WHOLE)


def test_a_whole_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    path.write_bytes(b"".join(WHOLE))
    before = path.stat()
    mend(path)
    assert path.stat() == before


@pytest.mark.parametrize("content", ["", "[]", '{"voc2012": 5}', "nothing"])
def test_damaged_keys_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ValueError, match=r"keys\.json is damaged"):
        claim(tmp_path, {"voc2012": {"data": "0"}}, write=True)
    assert (tmp_path / "keys.json").read_text() == content
