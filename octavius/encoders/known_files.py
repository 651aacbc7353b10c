"""Cache of facts about files (such as hashes), valid for as long as a file cannot have changed.

Size and modification time do not identify content: `touch -r`, `cp -p` and archives set the time at will. The
time of the last inode change (ctime) cannot be set, and is updated by every write, rename and change of the
other times; together with inode, size and modification time it identifies the content. The exception are
changes within one tick of the file system's clock, so facts are not cached for a file that was changed less
than two seconds before it was read.

Facts are kept in memory, which forked data workers inherit, and between runs in `known-files.json`: hashing
the 19 GB of COCO's images takes a minute, checking their inodes a second.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from octavius.files import open_file, read_bytes, write_text

FILE = "known-files.json"
SETTLED = 2_000_000_000
"""Nanoseconds after which any further change of a file gets another ctime."""

Stamp = tuple[int, ...]
"""Inode, size, modification time and change time of a file."""

_facts: dict[str, tuple[Stamp, str]] = {}
"""Absolute path to the file's stamp and its fact."""
_recalled: dict[Path, Stamp] = {}
"""Cache folder to the stamp of its `known-files.json` when it was last loaded."""
_fresh: set[str] = set()
"""Paths whose facts `remember` has not stored yet."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        ValueError: the file does not exist or cannot be read.
    """
    try:
        return fact(path, lambda stream: hashlib.file_digest(stream, "sha256").hexdigest())
    except FileNotFoundError:
        raise ValueError(f"no file at {path}; check the data root and the annotation file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def fact(path: Path, find: Callable[[BufferedReader], str]) -> str:
    """What `find` returns for a file, called again only if the file may have changed.

    There is one fact per file: all callers must ask for the same.

    Raises:
        OSError: the file cannot be read.
    """
    name = os.path.abspath(path)
    known = _facts.get(name)
    if known is not None and known[0] == _stamp(os.stat(path)):
        return known[1]
    begun = time.time_ns()
    with open_file(path) as stream:
        before = os.fstat(stream.fileno())
        found = find(stream)
        after = os.fstat(stream.fileno())
    # The file must not have changed while it was read, and not shortly before.
    if _stamp(before) == _stamp(after) and after.st_ctime_ns + SETTLED < begun:
        _facts[name] = _stamp(after), found
        _fresh.add(name)
    return found


def recall(folder: Path) -> None:
    """Loads the facts that other runs and processes stored since the last call; damaged ones are ignored."""
    try:
        stamp = _stamp((folder / FILE).stat())
    except OSError:
        return
    if _recalled.get(folder) == stamp:
        return
    _recalled[folder] = stamp
    for name, (stamp, found) in _read(folder).items():
        _facts.setdefault(name, (stamp, found))


def remember(folder: Path) -> None:
    """Stores the facts found in this run; if that is impossible, the next run finds them again."""
    if not _fresh:
        return
    known = {**_read(folder), **{name: _facts[name] for name in _fresh}}
    with suppress(OSError):  # a shared cache may be read-only
        write_text(
            folder / FILE, json.dumps({name: [*stamp, found] for name, (stamp, found) in known.items()})
        )
        _fresh.clear()


def _read(folder: Path) -> dict[str, tuple[Stamp, str]]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_bytes(folder / FILE))
        if isinstance(content, dict):
            return {
                name: (tuple(row[:-1]), row[-1])
                for name, row in content.items()
                if isinstance(row, list) and len(row) == 5 and isinstance(row[-1], str)
            }
    return {}


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
