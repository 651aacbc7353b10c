"""Files that are read without waiting, and replaced as a whole.

`open_file` opens what a user or an annotation file names, and refuses what is no ordinary file: reading a pipe or a
device may wait for ever.

Replacement is atomic: a reader, or the next run, finds the old content or the new one and never a part.

Everything that the program writes and later believes (checkpoints, caches, journals, tables, exports) goes through
`replacing`. A process that is killed in the middle leaves a partial file beside the target, which nothing reads;
`remove_partials` clears those whose process has ended.
"""

import errno
import json
import os
import re
import resource
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any
from uuid import uuid4

PREFIX = ".partial-"


def open_file(path: Path) -> BufferedReader:
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
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yields a path to write to, which replaces `path` at the end of the block; after an error it is removed.

    The partial file lies in the target's own folder, because a rename is atomic only within one file system, and
    has the target's suffix, which some libraries go by. A symbolic link is kept, and the file that it points to is
    replaced; an existing file keeps its permissions.

    Args:
        path: the file to replace, or a new one; its folder is made if needed.
        durable: whether to flush the file to the disk before it is renamed. Otherwise a loss of power can leave an
            empty file under the final name: only for files that are checked when they are read and can be made
            again, since a flush takes milliseconds.

    Raises:
        OSError: `path` is no file, the folder cannot be written to, or the disk is full; `path` is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_for(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(target)
        try:
            yield partial
            partial.chmod(mode)  # some libraries make files that only their owner may read
            if durable:
                flush(partial)
            os.replace(partial, target)
            if durable:
                flush(target.parent)
        finally:
            partial.unlink(missing_ok=True)
    except Exception as error:
        if (failed := disk_error(error, path)) is None:
            raise
        raise failed from error


def disk_error(error: BaseException, path: Path) -> OSError | None:
    """What the file system said while `path` was written; None when the error is of another kind.

    Libraries hide it: torch raises a RuntimeError with the OSError as its context, safetensors an error of its own
    that ends with `(os error 28)`. The name in it is that of the target rather than of the partial file.
    """
    if isinstance(error, ValueError):  # a message of ours, whatever led to it
        return None
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            return None
        cause = OSError(int(found[1]), os.strerror(int(found[1])))
    assert isinstance(cause, OSError)
    if cause.errno is None:
        return OSError(f"{path} cannot be written: {cause}")
    return OSError(cause.errno, f"{cause.strerror or os.strerror(cause.errno)}, while writing", str(path))


def check_replaceable(path: Path) -> None:
    """Refuses what `replacing` would refuse: a folder, a device, or a file that may not be written.

    Raises:
        OSError: `path` is one of them.
    """
    try:
        _mode_for(Path(os.path.realpath(path)))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, where a file is to be written", str(path)) from None


def check_writable(folder: Path, needed: int = 0) -> None:
    """Writes and removes a small file in a folder, which is made if needed, and looks at the free space.

    Args:
        folder: where something is to be written later.
        needed: bytes of the largest file.

    Raises:
        OSError: it cannot be written to, or has less space.
    """
    probe = partial_of(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partials(folder)
        try:
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, so that nothing can be written", str(folder)) from None
    free = shutil.disk_usage(folder).free
    if limit := resource.getrlimit(resource.RLIMIT_FSIZE)[0] + 1:  # -1 is none
        free = min(free, limit - 1)
    if free < needed:
        said = f"{needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB can be written"
        raise OSError(errno.ENOSPC, said, str(folder))


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text in UTF-8 with unchanged line ends."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def read_json(path: Path) -> Any:
    """The content of a JSON file that this program wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: it is not JSON ({error}); remove it, and it is made anew"
        ) from None


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


def _mode_for(target: Path) -> int:
    """The permissions of a file that is replaced: its own, or the usual ones of a new file.

    Raises:
        OSError: it is a folder, a device, a link that leads nowhere, or may not be written.
    """
    if target.is_symlink():  # `realpath` stops at a link only when it leads round in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not target.exists():
        return 0o666 & ~_umask()
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not target.is_file():
        raise OSError(errno.EINVAL, "It is a device or a pipe, expected a file")
    if not os.access(target, os.W_OK):  # a rename needs no permission of the file that it replaces
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    return target.stat().st_mode & 0o7777


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
