"""Folders whose files belong together, such as weights and their configuration, verified by checksums.

Several files cannot be replaced atomically. So each folder that Octavius writes has a list of the SHA-256 of
its files, which is written last. A reader refuses a folder that does not match its list: an interrupted save
mixed two versions, a copy is incomplete, or a bit flipped. Other programs can ignore the list.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octavius.files import (
    check_writable,
    disk_error,
    flush,
    open_file,
    partial_of,
    read_json,
    write_text,
)

LIST = "sha256.json"
SHARDS = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")
"""Weight files that transformers might load instead of those written last, so stale ones have to be removed."""


@contextmanager
def saving_folder(path: Path, new: bool = False) -> Iterator[Path]:
    """Context manager that yields an empty folder, whose files move to `path` on success.

    A new folder appears as a whole. In an existing one files are replaced one by one, the list last, and
    files of an earlier save are removed.

    Args:
        path: the folder.
        new: refuse an existing folder that is not empty.

    Raises:
        OSError: `path` is not writable or the disk is full; its previous content is unchanged.
    """
    target = Path(os.path.realpath(path))
    try:
        if exists := target.exists():
            check_writable(target)  # also removes partial files of killed processes
            if new and any(target.iterdir()):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(target / "folder" if exists else target)
        partial.mkdir()
        try:
            yield partial
            files = sorted(file for file in partial.rglob("*") if file.is_file() and file.name != LIST)
            for file in files:
                # safetensors creates files that only their owner may read.
                file.chmod(file.stat().st_mode | 0o044)
                flush(file)
            found = {file.relative_to(partial).as_posix(): _digest(file) for file in files}
            write_text(partial / LIST, json.dumps(found, indent=1) + "\n")
            if exists:
                _move(partial, target, found)
            else:
                os.replace(partial, target)
                flush(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except Exception as error:
        if (failed := disk_error(error, path)) is None:
            raise
        raise failed from error


def check_folder(folder: Path) -> None:
    """Verifies the files of a folder against its checksum list, if it has one.

    Raises:
        ValueError: a file is missing or has changed.
    """
    for name, digest in listed(folder).items():
        check_listed(folder / name, digest)


def check_listed(file: Path, digest: str | None = None) -> None:
    """Verifies one file against the checksum list of its folder, if it is listed.

    Args:
        file: the file.
        digest: its expected SHA-256, if already known; otherwise looked up.

    Raises:
        ValueError: the file is missing or has changed.
    """
    wanted = listed(file.parent).get(file.name) if digest is None else digest
    if wanted is None:
        return
    advice = f"save them again, or copy all of {file.parent}; after a change on purpose remove {LIST} there"
    try:
        found = _digest(file)
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read ({error.strerror}), but {LIST} beside it names it; {advice}"
        ) from None
    if found != wanted:
        raise ValueError(
            f"{file} is not the file that was saved with the others: it is damaged, was changed, or a save was cut "
            f"short; {advice}"
        )


def listed(folder: Path) -> dict[str, str]:
    """The checksum list of a folder: file name to SHA-256; empty if there is none.

    Raises:
        ValueError: the list is damaged.
    """
    path = folder / LIST
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise ValueError(f"{path} is damaged: expected a checksum for each file; copy the folder again")
    return found


def _move(partial: Path, target: Path, found: dict[str, str]) -> None:
    """Moves the files into an existing folder, the list last."""
    try:
        before = set(listed(target))
    except ValueError:
        before = set()
    for name in found:
        (target / name).parent.mkdir(exist_ok=True)
        os.replace(partial / name, os.path.realpath(target / name))
    shards = any(map(SHARDS.fullmatch, found))
    for file in target.iterdir():
        if file.name not in found and (file.name in before or (shards and SHARDS.fullmatch(file.name))):
            file.unlink()
    flush(target)
    os.replace(partial / LIST, target / LIST)
    flush(target)


def _digest(file: Path) -> str:
    with open_file(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
