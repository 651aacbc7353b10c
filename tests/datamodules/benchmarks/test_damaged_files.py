"""Every file of every benchmark is damaged in turn: readers name it, or are right nevertheless and lose no sample."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.benchmarks import DatasetNotFoundError, read
from datamodules.sources import Source
from datamodules.suite import SUITE
from octavius.instruction.sample import Sample
from tests.datamodules import data_root

SINGLE = [name for name in SUITE if len(SUITE[name]) == 1]
MEDIA = {".jpg", ".png", ".ply", ".npy"}
"""They are opened by the data workers, whose errors are tested with the loaders."""

LINES = {".txt", ".csv", ".token", ".tsv"}
"""Half of a list of lines is a list of lines, which no reader can tell from a whole one; so is a number."""


def noise(size: int) -> bytes:
    return bytes([0xFF, 0xFE, 0x00]) + random.Random(0).randbytes(size)


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "not text": lambda content: noise(len(content)),
    "JSON of another kind": lambda _: b"7",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with everything in it; it is not to be changed."""
    return data_root.write(tmp_path_factory.mktemp("damaged") / "data")


def outcome(source: Source, root: Path) -> list[Sample] | str:
    """The samples, or what a user is told instead."""
    try:
        return read(source.benchmark, root, source.split)
    except (ValueError, DatasetNotFoundError) as error:
        return str(error)


def facts(samples: list[Sample]) -> list[tuple[object, ...]]:
    """What is asked and what is right; objects of scans, which only some proposals need, are told apart."""
    return [(one.id, one.task, one.question, one.gold, one.history, list(one.media)) for one in samples]


@pytest.mark.parametrize("name", SINGLE)
def test_a_damaged_file_is_named(whole: Path, tmp_path: Path, name: str) -> None:
    [source] = SUITE[name]
    root = Path(shutil.copytree(whole / source.folder, tmp_path / "data"))
    expected = read(source.benchmark, root, source.split)
    refused = 0
    for file in sorted(one for one in root.rglob("*") if one.is_file() and one.suffix not in MEDIA):
        content = file.read_bytes()
        for kind, damage in DAMAGE.items():
            damaged = damage(content)
            if kind in ("cut short", "JSON of another kind") and file.suffix in LINES:
                continue
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            found = outcome(source, root)
            if isinstance(found, str):
                refused += 1
                told = file.stem in found or "no sample found" in found  # an empty list of names
                assert told, f"{kind} {file.name}: {found}"
            else:
                assert facts(found) == facts(expected), f"{kind} {file.name} changes samples without a word"
            file.write_bytes(content)
    assert refused, "some file is needed"
