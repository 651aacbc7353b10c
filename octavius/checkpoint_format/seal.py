"""A checksum at the end of checkpoint files, which detects any change of a file.

torch checkpoints are ZIP archives. The checksum (SHA-256 of everything before it) is stored as the archive's
comment, so `torch.load` and `unzip` still read the file. Archives without it, from earlier versions or plain
`torch.save`, have a CRC-32 for each tensor, which `torch.load` does not verify; here it is verified.
"""

import hashlib
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from octavius.files import open_file

MARK = b"octavius-sha256:"
END = b"PK\x05\x06"
"""Signature of the last record of an archive. The record has 22 bytes; the last two are the length of the comment."""

LENGTH = len(MARK) + 64


class DamagedError(ValueError):
    """The file is not what was written."""


def seal(file: Path) -> None:
    """Appends the checksum to an archive that `torch.save` wrote."""
    with file.open("r+b") as stream:
        stream.seek(-2, os.SEEK_END)
        stream.write(LENGTH.to_bytes(2, "little"))
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0, os.SEEK_END)
        stream.write(MARK + digest.encode())


def is_sealed(file: Path) -> bool:
    """Whether a file ends with a checksum, valid or not."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - LENGTH))
        return stream.read(len(MARK)) == MARK


def check_seal(file: Path) -> bool:
    """Verifies the checksum of a file; returns False if it has none. A file is read again only if it has changed.

    Raises:
        DamagedError: the file is truncated, or any bit of it has changed.
        OSError: it cannot be read.
    """
    with open_file(file) as stream:  # refuses pipes, which would block
        found = os.fstat(stream.fileno())
    return _check(file.absolute(), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@lru_cache(64)
def _check(file: Path, size: int, *_: int) -> bool:
    with open_file(file) as stream:
        stream.seek(max(0, size - LENGTH - 22))
        tail = stream.read()
        # Without a comment the file ends with the record END of 22 bytes; sealed, LENGTH bytes follow it.
        if tail[-22:].startswith(END) and tail.endswith(b"\0\0"):
            _check_parts(file)
            return False
        if not tail[22:].startswith(MARK) or len(tail) != LENGTH + 22:
            raise DamagedError("its end is missing")
        stream.seek(0)
        if _digest(stream, size - LENGTH) != tail[22 + len(MARK) :]:
            raise DamagedError("its checksum is another: at least one bit has changed since it was written")
    return True


def _digest(stream: BinaryIO, length: int) -> bytes:
    digest = hashlib.sha256()
    while length and (part := stream.read(min(length, 1 << 20))):
        digest.update(part)
        length -= len(part)
    return digest.hexdigest().encode()


def _check_parts(file: Path) -> None:
    """Verifies the CRC-32 of each entry of an archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise DamagedError(str(error)) from None
    if bad is not None:
        raise DamagedError(f"the checksum of its part {bad} is another")
