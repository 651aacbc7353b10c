"""Facts about a file are cached as long as it cannot have changed, and no longer."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from octavius.encoders import known_files
from octavius.encoders.known_files import FILE, SETTLED, digest_of, fact, recall, remember


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process."""
    monkeypatch.setattr(known_files, "_facts", {})
    monkeypatch.setattr(known_files, "_recalled", {})
    monkeypatch.setattr(known_files, "_fresh", set())


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is past the time in which changes of a file may go unseen."""
    real = time.time_ns
    monkeypatch.setattr("octavius.encoders.known_files.time.time_ns", lambda: real() + 2 * SETTLED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    return path


def reads(file: Path) -> Iterator[bytes]:
    """The content, once for each time that it is read at all."""
    found: list[bytes] = []

    def look(stream: BinaryIO) -> str:
        found.append(stream.read())
        return "seen"

    while True:
        found.clear()
        assert fact(file, look) == "seen"
        yield b"".join(found)


def test_a_digest_is_that_of_the_content(file: Path) -> None:
    # printf picture | sha256sum
    assert digest_of(file) == "2cea274d0bedc39ec4ab6ba9e59ec889e3ed6fb56a1cf088a64d9b383378dc97"
    with pytest.raises(ValueError, match=r"no file at .*gone\.png; check the data root"):
        digest_of(file.with_name("gone.png"))


@pytest.mark.usefixtures("later")
def test_a_file_is_read_again_when_it_changed_whatever_its_time_says(file: Path) -> None:
    looks = reads(file)
    assert [next(looks), next(looks)] == [b"picture", b""]
    before = file.stat()
    file.write_bytes(b"PICTURE")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert [next(looks), next(looks)] == [b"PICTURE", b""]
    other = file.with_name("b.png")
    other.write_bytes(b"another")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert next(looks) == b"another"


def test_nothing_is_remembered_of_a_file_that_has_just_changed(file: Path) -> None:
    looks = reads(file)
    assert [next(looks), next(looks)] == [b"picture", b"picture"]


@pytest.mark.usefixtures("later")
def test_facts_are_kept_between_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next(reads(file))
    remember(tmp_path)
    forget(monkeypatch)
    recall(tmp_path)
    assert next(reads(file)) == b""
    file.write_bytes(b"PICTURE")
    assert next(reads(file)) == b"PICTURE"


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"a": 5}', b'{"a": [1, 2, 3, 4]}', b"[" * 100_000, b"\xff"]
)
def test_a_damaged_store_is_passed_over_and_made_anew(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / FILE).write_bytes(content)
    recall(tmp_path)
    assert next(reads(file)) == b"picture"
    remember(tmp_path)
    forget(monkeypatch)
    recall(tmp_path)
    assert next(reads(file)) == b""
