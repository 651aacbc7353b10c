"""The predictions files of an evaluation: appended to while answers are generated, and complete in the end.

Each rank appends its answers to a part file of its own; if the run is killed, only the last line can be incomplete.
When all answers are there, rank 0 writes each once, in the order of the data, and removes the parts.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from octavius.display import file_name
from octavius.evaluation.answers import Answered
from octavius.evaluation.predictions import line_of, read_predictions
from octavius.files import atomic_write, read_bytes

PARTS = "unfinished"
"""Name of the folder of part files, inside the folder of the predictions."""


class PredictionFiles:
    """Writes and reads the predictions files of one folder: one of the given name, or one for each evaluation set."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Creates nothing.

        Args:
            folder: folder of the files.
            name: name of the file for all sets, without suffix; None writes a file for each set, named after it.
        """
        self.folder, self.name = folder, name

    def append(self, answers: Sequence[Answered], rank: int) -> None:
        """Appends answers to the part files of a rank."""
        for name, items in self._by_file(answers).items():
            write_predictions(self._part(name, rank), items, append=True)

    def finish(self, answers: Sequence[Answered]) -> None:
        """Replaces the files by ones with exactly these answers, in this order, and removes their part files."""
        for name, items in self._by_file(answers).items():
            write_predictions(self.folder / f"{name}.jsonl", items)
            for part in self._parts(name):
                part.unlink()
        self._remove_folder()

    def discard(self, rank: int) -> None:
        """Removes the part file of a rank, left by an interrupted evaluation or no longer needed."""
        assert self.name is not None, "the parts of a file for each set are kept, to resume from"
        self._part(self.name, rank).unlink(missing_ok=True)
        self._remove_folder()

    def has(self, set_name: str) -> bool:
        """Whether there are answers to an evaluation set."""
        name = self._file_of(set_name)
        parts = self._parts(name)
        return (self.folder / f"{name}.jsonl").is_file() or any(part.stat().st_size for part in parts)

    def read(self, set_names: Iterable[str]) -> list[Answered]:
        """The answers to some evaluation sets, from final files and part files; if a sample has several, the first.

        Lines that a crash or a full disk left incomplete are removed from the part files.
        """
        first: dict[tuple[str, str], Answered] = {}
        for set_name in set_names:
            name = self._file_of(set_name)
            final, parts = self.folder / f"{name}.jsonl", self._parts(name)
            for part in parts:
                drop_incomplete_lines(part)
            for file in [*([final] if final.is_file() else []), *parts]:
                for item in read_predictions(file, cut=True):
                    if item.set_name == set_name:
                        first.setdefault(item.key, item)
        return list(first.values())

    def _file_of(self, set_name: str) -> str:
        return self.name or file_name(set_name)

    def _by_file(self, answers: Iterable[Answered]) -> dict[str, list[Answered]]:
        by_file: dict[str, list[Answered]] = {}
        for item in answers:
            by_file.setdefault(self._file_of(item.set_name), []).append(item)
        return by_file

    def _part(self, name: str, rank: int) -> Path:
        return self.folder / PARTS / f"{name}.{rank}.part"

    def _parts(self, name: str) -> list[Path]:
        pattern = re.compile(rf"{re.escape(name)}\.\d+\.part")
        return sorted(file for file in (self.folder / PARTS).glob("*.part") if pattern.fullmatch(file.name))

    def _remove_folder(self) -> None:
        with suppress(OSError):  # there is none, or parts of other files are in it
            (self.folder / PARTS).rmdir()


def write_predictions(path: Path, answers: Sequence[Answered], append: bool = False) -> None:
    """Writes answers in the format of `read_predictions`: replaces the file atomically, or appends to it."""
    lines = map(line_of, answers)
    if append:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
        return
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(lines)


def drop_incomplete_lines(file: Path) -> None:
    """Removes lines that a crash or a full disk left incomplete; their samples are answered again."""
    lines = read_bytes(file).splitlines(keepends=True)
    complete = [line for line in lines if line.endswith(b"\n") and _is_object(line)]
    if complete != lines:
        with atomic_write(file) as partial:
            partial.write_bytes(b"".join(complete))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
