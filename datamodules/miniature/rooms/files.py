"""Writes the rooms' scans and annotations, in the official layouts of real data sets."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.miniature.once import PROCESSES, mapping, once
from datamodules.miniature.rooms import sensor
from datamodules.miniature.rooms.furniture.catalogue import CLASSES, KINDS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.rooms.scannet import write_labels, write_scan
from datamodules.miniature.rooms.sensor import Scan
from datamodules.miniature.rooms.shapenet import SUBJECTS, write_shapes
from datamodules.miniature.rooms.texts.annotations import (
    WORLDS,
    RoomTexts,
    generate_texts,
    write_nr3d,
    write_scanqa,
    write_scanrefer,
)
from datamodules.miniature.world import generator
from octavius.limits import POSITIVE_INT, SEED_RANGE

VERSION = 1
"""Incremented when the same seed and sizes yield other rooms, texts or files."""

RECORD = "rooms.json"
"""File with seed and sizes, written last: a folder that has it is complete."""

FEW = 16
"""Below this number of rooms, no process pool is started."""

LIMITS = {"train": 5000, "val": 1000, "test": 1000, "unseen": 1000}
"""Largest number of rooms: scans have four-digit numbers, and `WORLDS` gives each folder a range of them."""


@dataclass(frozen=True)
class Sizes:
    """Number of rooms, and of single objects.

    Attributes:
        train: training rooms.
        val: rooms as in training, for validation.
        test: rooms as in training, for testing.
        unseen: test rooms in each folder of `WORLDS` with held-out content.
        things_train: single training objects per class.
        things_test: single test objects per class.
    """

    train: int = 280
    val: int = 30
    test: int = 50
    unseen: int = 30
    things_train: int = 2
    things_test: int = 5

    def __post_init__(self) -> None:
        """Refuses empty sets, and more rooms than can be numbered."""
        empty = {name: size for name, size in asdict(self).items() if size < 1}
        if empty:
            raise ValueError(f"every size should be at least 1; found {empty}")
        full = {name: size for name, size in asdict(self).items() if size > LIMITS.get(name, size)}
        if full:
            raise ValueError(f"at most {LIMITS} rooms can be numbered; found {full}")

    def of(self, world: str, split: str) -> int:
        """Number of rooms in a split of a world; 0 if there is no such split."""
        if split not in WORLDS[world].splits:
            return 0
        return (
            {"train": self.train, "val": self.val, "test": self.test}[split]
            if world == "seen"
            else self.unseen
        )


DEFAULT_SIZES = Sizes()


@dataclass(frozen=True)
class Job:
    """One room to generate and scan.

    Attributes:
        world: a key of `WORLDS`.
        split: `train`, `val` or `test`.
        index: index in the split, which seeds the room.
        scan: name of its scan.
    """

    world: str
    split: str
    index: int
    scan: str


def build(
    root: Path,
    seed: int = 0,
    sizes: Sizes = DEFAULT_SIZES,
    progress: bool = True,
    processes: int | None = None,
) -> Path:
    """Writes the rooms unless the root already contains them with the same settings.

    Args:
        root: folder to create; it appears atomically when complete.
        seed: seed of everything in it.
        sizes: number of rooms and objects per set.
        progress: show a progress bar.
        processes: number of worker processes; null uses all cores.

    Raises:
        ValueError: the root contains something else.
    """
    SEED_RANGE.check(seed=seed)
    POSITIVE_INT.check(**asdict(sizes))
    PROCESSES.check(processes=processes)
    record = {"version": VERSION, "scanning": sensor.VERSION, "seed": seed, "sizes": asdict(sizes)}
    return once(root, RECORD, record, lambda home: _write(home, seed, sizes, progress, processes))


def room_of(seed: int, world: str, split: str, index: int) -> Room:
    """Generates one room, before it is scanned; deterministic."""
    return make_room(generator(seed, f"rooms/{world}/{split}", index), WORLDS[world].change)


def texts_of(seed: int, world: str, split: str, index: int, room: Room) -> RoomTexts:
    """Generates texts and questions about a room, usually about the objects that its scan shows; deterministic."""
    return generate_texts(
        room, WORLDS[world], generator(seed, f"told/{world}/{split}", index), split == "train"
    )


def plan(sizes: Sizes) -> Iterator[Job]:
    """All rooms; the numbers of scans continue through the splits of a world."""
    for world, facts in WORLDS.items():
        number = facts.first
        for split in facts.splits:
            for index in range(sizes.of(world, split)):
                yield Job(world, split, index, f"scene{number:04d}_00")
                number += 1


def _write(root: Path, seed: int, sizes: Sizes, progress: bool, processes: int | None) -> None:
    """Scans all rooms, then writes annotations, then single objects."""
    jobs = list(plan(sizes))
    room_texts: dict[str, dict[str, dict[str, RoomTexts]]] = {}
    facts: dict[str, dict[str, Any]] = {world: {} for world in WORLDS}
    with mapping(processes, len(jobs), FEW) as run:
        done = run(_make, [root] * len(jobs), [seed] * len(jobs), jobs)
        shown = tqdm(done, "writing the rooms", len(jobs), unit=" rooms", disable=not progress)
        for job, (words, known) in zip(jobs, shown, strict=True):
            room_texts.setdefault(job.world, {}).setdefault(job.split, {})[job.scan] = words
            facts[job.world][job.scan] = known
    for world, splits in room_texts.items():
        _annotate(root / world, seed, world, splits)
        text = ",\n".join(f"{json.dumps(scan)}: {json.dumps(known)}" for scan, known in facts[world].items())
        (root / world / "objects.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8", newline="\n")
    for world in SUBJECTS:
        for split in {"train", "test"} & {*WORLDS[world].splits}:
            each = sizes.things_train if split == "train" else sizes.things_test
            write_shapes(root / world, seed, world, split, each)


def _make(root: Path, seed: int, job: Job) -> tuple[RoomTexts, dict[str, Any]]:
    """Generates, scans and writes one room; returns texts and facts about the objects that the scan shows."""
    room = room_of(seed, job.world, job.split, job.index)
    scan = sensor.scan(room)
    write_scan(root / job.world / "scans" / job.scan, job.scan, room, scan)
    seen = room.only(scan.seen)
    return texts_of(seed, job.world, job.split, job.index, seen), _facts(seen, scan)


def _annotate(folder: Path, seed: int, world: str, splits: dict[str, dict[str, RoomTexts]]) -> None:
    write_labels(
        folder / "scannetv2-labels.combined.tsv", tuple(KINDS) if world == "unseen_classes" else CLASSES
    )
    for split, rooms in splits.items():
        names = "".join(f"{scan}\n" for scan in rooms)
        (folder / f"scannetv2_{split}.txt").write_text(names, encoding="utf-8", newline="\n")
        write_scanrefer(folder, split, rooms)
        write_scanqa(folder, split, rooms, generator(seed, f"balance/{world}/{split}", 0))
    write_nr3d(folder, {scan: room_texts for rooms in splits.values() for scan, room_texts in rooms.items()})


def _facts(room: Room, scan: Scan) -> dict[str, Any]:
    """Facts about a room and its objects, for `objects.json`."""
    return {
        "kind": room.kind,
        "size": [round(side, 6) for side in room.size],
        "objects": [_fact(piece, scan) for piece in room.pieces],
    }


def _fact(piece: Piece, scan: Scan) -> dict[str, Any]:
    return {
        "id": piece.number,
        "name": piece.name,
        "style": piece.appearance.style,
        "colour": piece.colour,
        "size": piece.size,
        "stands": piece.appearance.way.stands,
        "box": [round(edge, 6) for edge in piece.box],
        "front": piece.front,
        "points": int((scan.owners == piece.number).sum()),
        "seen": round(scan.shares[piece.number], 4),
    }
