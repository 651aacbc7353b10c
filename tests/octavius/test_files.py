"""Files are replaced whole or not at all, also by processes that are killed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from octavius.files import (
    atomic_write,
    check_replaceable,
    check_writable,
    partial_of,
    read_bytes,
    read_json,
    read_text,
    remove_partials,
    write_text,
)


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.txt"
    write_text(file, "old")
    with atomic_write(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
        assert (partial.parent, partial.suffix) == (file.parent, ".txt")
    assert file.read_text() == "new"
    assert os.listdir(file.parent) == ["a.txt"]


def test_after_an_error_the_old_content_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old\r\n")

    def write_half() -> None:
        with atomic_write(file) as partial:
            partial.write_text("ne")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert file.read_bytes() == b"old\r\n"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_of_few_rights_gets_the_usual_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with atomic_write(file) as partial:
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
        "import os, signal, sys; from pathlib import Path; from octavius.files import atomic_write, partial_of\n"
        f"root = Path({str(tmp_path)!r}); partial_of(root / 'folder').mkdir()\n"
        "with atomic_write(root / 'a.txt') as partial:\n"
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


def test_an_existing_file_keeps_its_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "a.txt").chmod(0o600)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600


def test_a_link_is_kept_and_its_target_replaced_or_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path("deep", "a.txt"))
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "deep" / "a.txt").read_text() == text


@pytest.mark.parametrize("name", ["folder", "circle", "null", "pipe"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match=f"while writing: .*{name}"):
        write_text(tmp_path / name, "new")
    with pytest.raises(OSError, match="where a file is to be written"):
        check_replaceable(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert Path("/dev/null").is_char_device()


def test_a_file_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.txt", "kept")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may do all
    with pytest.raises(PermissionError):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "kept"


class LibraryError(Exception):
    """As those of libraries that tell of the file system in their own words."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device, while writing"),
        (LibraryError("I/O error: disk (os error 28)"), "No space left on device, while writing"),
        (OSError("10 requested and 2 written"), "cannot be written: 10 requested and 2 written"),
    ],
)
def test_errors_of_the_file_system_name_the_target(tmp_path: Path, error: Exception, said: str) -> None:
    with pytest.raises(OSError, match=said) as told, atomic_write(tmp_path / "a.txt"):
        raise error
    assert "a.txt" in str(told.value)
    assert ".partial" not in str(told.value)


def test_an_error_within_an_error_of_torch_is_found(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "a.txt"):
            try:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            except OSError:
                raise RuntimeError("unexpected pos 768 vs 662")  # noqa: B904 - as torch does

    with pytest.raises(OSError, match="Disk quota exceeded, while writing"):
        write()


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ValueError("a message"), RuntimeError("another"), KeyboardInterrupt()):
        with pytest.raises(type(error)), atomic_write(tmp_path / "a.txt"):
            raise error
    assert not os.listdir(tmp_path)


def test_a_folder_is_tried_before_it_is_needed(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder", 1000)
    assert not os.listdir(tmp_path / "new" / "folder")
    with pytest.raises(OSError, match=r"1,000,000,000,000\.0 MB are needed and .* MB can be written: .*new"):
        check_writable(tmp_path / "new", 10**18)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"so that nothing can be written: .*file"):
        check_writable(tmp_path / "file" / "below")


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\udcff"])
def test_damaged_json_is_told_with_its_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"a\.json is damaged: it is not JSON .* remove it"):
        read_json(path)


def test_pipes_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_text(tmp_path / "text", "utf-8-sig") == "a\nb"
    assert read_bytes(tmp_path / "text")[3:] == b"a\r\nb"
    for path in (tmp_path / "pipe", tmp_path):
        for read in (read_text, read_bytes, read_json):
            with pytest.raises(OSError, match=r"Is a (pipe|directory)"):
                read(path)


def test_a_folder_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for folder in (tmp_path / "a", tmp_path / "a" / "b" / "c"):
        with pytest.raises(OSError, match=f"{tmp_path}/a is a file, expected a folder"):
            check_writable(folder)
        with pytest.raises(OSError, match=f"{tmp_path}/a is a file, expected a folder"):
            write_text(folder / "b", "")
