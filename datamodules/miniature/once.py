"""Writes a generated folder atomically and only once, and maps over a process pool."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octavius.files import partial_of, read_text, remove_partials, write_text
from octavius.limits import Range
from octavius.processes import worker_pool

PROCESSES = Range(1, 1024, integer=True)
"""Allowed number of processes."""

ADVICE = "Choose another root, or delete that folder if nothing in it is needed."


def once(root: Path, record_name: str, record: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Writes a folder that appears atomically when complete.

    Args:
        root: the folder; if it already has the same record, nothing is written.
        record_name: name of the record file.
        record: version, seed and sizes of the content, as plain values; written as JSON.
        write: creates and fills the folder that it is given.

    Returns:
        The root, with `~` expanded.

    Raises:
        ValueError: the root is not empty and has no such record.
    """
    root = root.expanduser()
    home = root.resolve()
    if home.exists() and not (home.is_dir() and not any(home.iterdir())):
        _check(home, record_name, record)
        return root
    home.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(home.parent)
    partial = partial_of(home)
    try:
        write(partial)
        write_text(partial / record_name, json.dumps(record, indent=2) + "\n")
        try:
            partial.rename(home)
        except OSError:
            if not home.exists():
                raise
            _check(home, record_name, record)  # another process was faster
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


@contextmanager
def mapping(processes: int | None, count: int, few: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yields `map` over a pool of `processes` (None: one per core), or the built-in `map` for `count` below `few`."""
    processes = processes or _cores()
    if processes == 1 or count < few:
        yield map
        return
    with worker_pool(processes) as pool:

        def run(*args: Any) -> Iterable[Any]:
            return pool.map(*args, chunksize=max(1, few // 8))

        yield run


def _check(root: Path, record_name: str, wanted: dict[str, Any]) -> None:
    """Raises if a folder does not have the wanted record."""
    try:
        found = json.loads(read_text(root / record_name))
    except OSError:
        raise ValueError(
            f"{root} exists, but is not a miniature: it holds no {record_name}. {ADVICE}"
        ) from None
    except ValueError:
        raise ValueError(f"{root / record_name} is damaged: it is not JSON. {ADVICE}") from None
    if found != wanted:
        raise ValueError(
            f"{root} holds a miniature of other settings.\nfound:  {found}\nwanted: {wanted}\n{ADVICE}"
        )


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
