"""Reads files without blocking and replaces them atomically.

`open_file` opens what a user or an annotation file names, and refuses anything but a regular file: reading a
pipe or a device may block for ever.

Everything that the program writes and later relies on (checkpoints, caches, journals, tables, exports) goes
through `atomic_write`: a reader sees the old content or the new, never a part of it. A process that is killed
while writing leaves a partial file next to the target, which nothing reads; `remove_partials` deletes those
whose process has ended.
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
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any
from uuid import uuid4

PREFIX = ".partial-"


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file for reading bytes. Unlike `open`, it does not wait for the writer of a pipe.

    Raises:
        OSError: there is no such file, it cannot be read, or it is a folder, a pipe, a socket or a device.
            The reason is in its `strerror`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:  # a name with a NUL byte or a lone surrogate
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


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a regular file, see `open_file`. Line ends become a line feed.

    Raises:
        OSError: it cannot be read, or is no regular file.
        UnicodeDecodeError: it is not in this encoding.
    """
    with TextIOWrapper(open_file(path), encoding=encoding) as file:
        return file.read()


def read_bytes(path: Path) -> bytes:
    """The content of a regular file, see `open_file`.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_file(path) as file:
        return file.read()


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Context manager that yields a temporary path, which replaces `path` on success and is removed on error.

    The temporary file is in the target's own folder, because a rename is atomic only within one file system,
    and has the target's suffix, since some libraries choose a format by it. If `path` is a symbolic link, the
    file that it points to is replaced. An existing file keeps its permissions.

    Args:
        path: the file to replace or create; its folder is made if needed.
        durable: flush the file to disk before the rename, which takes milliseconds. Without it a power
            failure can leave an empty file under the final name: only for files that are verified on reading
            and can be made again.

    Raises:
        OSError: `path` is not a file, the folder is not writable, or the disk is full; `path` is unchanged.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_for(target)
        make_folder(target.parent)
        partial = partial_of(target)
        try:
            yield partial
            partial.chmod(mode)  # safetensors and others create files that only their owner may read
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
    """The OSError behind an error that was raised while `path` was written; None if there is none.

    Libraries hide it: torch raises a RuntimeError with the OSError as context, safetensors an error whose
    text ends with `(os error 28)`. The result names the target instead of the temporary file.
    """
    if isinstance(error, ValueError):  # one of our own messages for users: keep it
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
    """Checks that `atomic_write` could write `path`.

    Raises:
        OSError: it is a folder, a device, or a file without write permission.
    """
    try:
        _mode_for(Path(os.path.realpath(path)))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, where a file is to be written", str(path)) from None


def check_writable(folder: Path, needed: int = 0) -> None:
    """Checks that files can be written to a folder, by writing a small one, and that there is enough space.

    Args:
        folder: where files will be written; made if needed. Left-over partial files in it are removed.
        needed: size of the largest file in bytes.

    Raises:
        OSError: the folder is not writable or has too little space.
    """
    probe = partial_of(folder / "probe")
    try:
        make_folder(folder)
        remove_partials(folder)
        try:
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, so that nothing can be written", str(folder)) from None
    free = shutil.disk_usage(folder).free
    if limit := resource.getrlimit(resource.RLIMIT_FSIZE)[0] + 1:  # -1 means unlimited
        free = min(free, limit - 1)
    if free < needed:
        said = f"{needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB can be written"
        raise OSError(errno.ENOSPC, said, str(folder))


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, if they do not exist.

    Raises:
        OSError: they cannot be made; if one of them is a file, the error names it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        wrong = next((one for one in (folder, *folder.parents) if one.exists()), folder)
        said = f"{wrong} is a file, expected a folder"
        raise NotADirectoryError(errno.ENOTDIR, said, str(folder)) from None


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text in UTF-8, without translating line ends."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def read_json(path: Path) -> Any:
    """Reads a JSON file that this program wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: it is not JSON ({error}); remove it, and it is made anew"
        ) from None


def partial_of(path: Path) -> Path:
    """A new temporary name next to `path`, which contains the host and the id of this process."""
    # File systems allow 255 bytes per name. Keeps the end of a long one, because that has the suffix.
    end = path.name.encode()[-100:].decode(errors="ignore")
    return path.with_name(f"{PREFIX}{socket.gethostname()[:64]}-{os.getpid()}-{uuid4().hex[:8]}-{end}")


def remove_partials(folder: Path) -> list[Path]:
    """Deletes partial files and folders that killed processes of this host left in a folder.

    Those of other hosts (on a shared file system) stay, since their processes cannot be checked from here.
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
    """Flushes a file, or the directory entries of a folder, to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse it for folders
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _mode_for(target: Path) -> int:
    """Permissions for a file to be replaced: its own, or the default ones of a new file.

    Raises:
        OSError: it is a folder, a device, a link in a cycle, or not writable.
    """
    if target.is_symlink():  # `realpath` leaves a link unresolved only if it is part of a cycle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not target.exists():
        return 0o666 & ~_umask()
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not target.is_file():
        raise OSError(errno.EINVAL, "It is a device or a pipe, expected a file")
    if not os.access(target, os.W_OK):  # os.replace would succeed even on a read-only target
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
    """The umask of the process, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
