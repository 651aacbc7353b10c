"""Files are replaced whole or not at all, also by processes that are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from octavius.files import partial_of, remove_partials, replacing, write_text


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.txt"
    write_text(file, "old")
    with replacing(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
        assert (partial.parent, partial.suffix) == (file.parent, ".txt")
    assert file.read_text() == "new"
    assert os.listdir(file.parent) == ["a.txt"]


def test_after_an_error_the_old_content_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old\r\n")

    def write_half() -> None:
        with replacing(file) as partial:
            partial.write_text("ne")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert file.read_bytes() == b"old\r\n"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_of_few_rights_gets_the_usual_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with replacing(file) as partial:
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))
    plain = tmp_path / "b.txt"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("name", ["é" * 120 + ".npy", "x" * 251 + ".npy"])
def test_a_long_name_has_a_partial_file(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "whole")
    assert os.listdir(tmp_path) == [name]


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from octavius.files import partial_of, replacing\n"
        f"root = Path({str(tmp_path)!r}); partial_of(root / 'folder').mkdir()\n"
        "with replacing(root / 'a.txt') as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    mine = partial_of(tmp_path / "b.txt")
    mine.touch()
    elsewhere = tmp_path / ".partial-another.host-1-00000000-c.txt"
    elsewhere.touch()
    assert len(os.listdir(tmp_path)) == 4
    assert len(remove_partials(tmp_path)) == 2
    assert set(tmp_path.iterdir()) == {mine, elsewhere}
