"""Data module of the miniature's objects, for which colour, front and held-out combinations are known."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from datamodules.benchmarks.documents import load_json
from datamodules.miniature.rooms.files import build
from datamodules.miniature.rooms.furniture.catalogue import (
    HELD_OUT_PAIRS,
    HELD_OUT_STYLES,
    UNSEEN_CLASSES,
)
from datamodules.pretraining.object_clouds import Facts
from datamodules.pretraining.objects import Objects

FACTS = "objects.json"
"""File next to the miniature's scans with facts about their objects."""


class MiniatureObjects(Objects):
    """Objects of the miniature's rooms, which are written to the root if they do not exist."""

    def prepare_data(self) -> None:
        """Writes the rooms unless they exist, in minutes; Lightning calls it in one process."""
        build(self.root)

    def facts(self, folder: Path) -> Mapping[str, Facts]:
        """Facts about objects by sample id; none if the folder is not one of the miniature."""
        return read_facts(folder)


def read_facts(folder: Path) -> dict[str, Facts]:
    """Facts about the objects of the miniature's rooms by sample id; empty for other data sets."""
    if not (folder / FACTS).is_file():
        return {}
    return dict(_facts(load_json(folder / FACTS, dict)))


def _facts(rooms: Mapping[str, Mapping[str, list[dict[str, object]]]]) -> Iterator[tuple[str, Facts]]:
    for scan, room in rooms.items():
        for one in room["objects"]:
            name, front = one["name"], one["front"]
            pair, styled = (one["colour"], name), (one["style"], name)
            held_out = pair in HELD_OUT_PAIRS or styled in HELD_OUT_STYLES or name in UNSEEN_CLASSES
            yaw = math.atan2(-front[0], front[1]) if isinstance(front, list) else None
            yield f"{scan}-{one['id']}", Facts(str(one["colour"]), yaw, held_out)
