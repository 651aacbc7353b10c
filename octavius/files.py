"""Files that are read without waiting, and replaced as a whole.

`open_file` opens what a user or an annotation file names, and refuses what is no ordinary file: reading a pipe or a
device may wait for ever.

Replacement is atomic: a reader, or the next run, finds the old content or the new one and never a part.

Everything that the program writes and later believes (checkpoints, caches, journals, tables, exports) goes through
`replacing`. A process that is killed in the middle leaves a partial file beside the target, which nothing reads;
`remove_partials` clears those whose process has ended.
"""

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PREFIX = ".partial-"


def open_file(path: Path) -> BinaryIO:
    """Opens an ordinary file for reading bytes; it never waits, as `open` does for the writer of a pipe.

    Raises:
        OSError: there is no such file, it cannot be read, or it is a folder, a pipe, a socket or a device. The reason
            is its `strerror`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:  # a name with a zero byte, or with half a surrogate pair
        raise OSError(errno.EINVAL, f"Not a name of a file ({error})", str(path)) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kinds = (
                (stat.S_ISDIR, "Is a directory"),
                (stat.S_ISFIFO, "Is a pipe"),
                (stat.S_ISSOCK, "Is a socket"),
            )
            found = next((words for is_kind, words in kinds if is_kind(mode)), "Is a device")
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(number, f"{found}, expected an ordinary file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which replaces `path` at the end of the block; after an error it is removed.

    The partial file lies in the target's own folder, because a rename is atomic only within one file system, and
    has the target's suffix, which some libraries go by. It is flushed to the disk before it is renamed: otherwise a
    loss of power could leave an empty file under the final name.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())  # some libraries make files that only their owner may read
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text in UTF-8 with unchanged line ends."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def partial_of(path: Path) -> Path:
    """A new name beside `path` that tells which process writes there."""
    # File systems allow 255 bytes a name: the end of a long one is kept, which holds the suffix.
    end = path.name.encode()[-100:].decode(errors="ignore")
    return path.with_name(f"{PREFIX}{socket.gethostname()[:64]}-{os.getpid()}-{uuid4().hex[:8]}-{end}")


def remove_partials(folder: Path) -> list[Path]:
    """Removes the partial files and folders that processes of this host left in a folder when they were killed.

    Those of other hosts stay: whether their process still runs cannot be told from here.
    """
    removed = []
    for path in sorted(folder.glob(f"{PREFIX}{socket.gethostname()[:64]}-*")):
        owner = path.name.removeprefix(f"{PREFIX}{socket.gethostname()[:64]}-").partition("-")[0]
        if not owner.isdecimal() or _is_running(int(owner)):
            continue
        with suppress(OSError):  # another process may clear it at the same moment
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            removed.append(path)
    return removed


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse it for folders
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
