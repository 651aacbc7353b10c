"""Writes the scan of one room in ScanNet's layout, in a frame that is not aligned with the axes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import KINDS
from datamodules.miniature.rooms.room import Room
from datamodules.miniature.rooms.sensor import FLOOR, WALL, Scan

SCENE_TYPES = {
    "bedroom": "Bedroom / Hotel",
    "living room": "Living room / Lounge",
    "office": "Office",
    "dining room": "Kitchen",
    "bathroom": "Bathroom",
}
"""ScanNet's name for each use of a room."""

NYU40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror"),
    *("floor mat", "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel"),
    *("shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp"),
    *("bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)
"""Names of the NYU40 classes, starting with id 1; "refridgerator" is the official spelling."""

COLUMNS = (
    *("id", "raw_category", "category", "count", "nyu40id", "eigen13id"),
    *("nyuClass", "nyu40class", "eigen13class"),
    *("ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid", "wnsynsetkey"),
    *("mpcat40", "mpcat40index"),
)
"""Columns of ScanNet's label table."""
VERTEX = np.dtype(
    [(axis, "<f4") for axis in "xyz"] + [(channel, "u1") for channel in ("red", "green", "blue", "alpha")]
)
HEADER = """\
ply
format binary_little_endian 1.0
comment a scan of the miniature's rooms: points alone
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
property uchar alpha
element face 0
property list uchar int vertex_indices
end_header
"""


def write_scan(folder: Path, name: str, room: Room, scan: Scan) -> None:
    """Writes the mesh (without faces), the segments, the objects that the scan shows, and the axis alignment.

    Args:
        folder: folder of this scan; it is created.
        name: name of the scan, such as `scene0000_00`.
        room: the room; objects that the scan does not show are not annotated.
        scan: its points.
    """
    folder.mkdir(parents=True)
    align = _alignment(room)
    points = (scan.points - align[:3, 3]) @ align[:3, :3]  # the inverse of a rigid motion
    vertices = np.zeros(len(points), VERTEX)
    for column, axis in enumerate("xyz"):
        vertices[axis] = points[:, column]
    for column, channel in enumerate(("red", "green", "blue")):
        vertices[channel] = scan.colours[:, column]
    vertices["alpha"] = 255
    header = HEADER.format(count=len(vertices)).encode("ascii")
    (folder / f"{name}_vh_clean_2.ply").write_bytes(header + vertices.tobytes())
    segments = f"{name}_vh_clean_2.0.010000.segs.json"
    _json(folder / segments, {"sceneId": name, "segIndices": scan.segments.tolist()})
    groups = {
        "sceneId": f"scannet.{name}",
        "appId": "Aggregator.v2",
        "segGroups": _groups(room, scan),
        "segmentsFile": f"scannet.{segments}",
    }
    _json(folder / f"{name}.aggregation.json", groups)
    numbers = " ".join(f"{value:.6f}" for value in align.reshape(-1))
    text = f"axisAlignment = {numbers} \nsceneType = {SCENE_TYPES[room.kind]}\n"
    (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")


def write_labels(path: Path, names: tuple[str, ...]) -> None:
    """Writes the label table for some classes, wall and floor; columns that no reader needs are empty."""
    rows = [("wall", 1), ("floor", 2), *[(name, KINDS[name].nyu40) for name in names]]
    lines = ["\t".join(COLUMNS)]
    for number, (name, nyu40) in enumerate(rows, 1):
        filled = {"id": number, "raw_category": name, "category": name, "nyu40id": nyu40}
        filled["nyu40class"] = NYU40[nyu40 - 1]
        lines.append("\t".join(str(filled.get(column, "")) for column in COLUMNS))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _groups(room: Room, scan: Scan) -> list[dict[str, Any]]:
    """The objects that the scan shows, by their numbers, then floor and walls with the next two numbers."""
    last = max((piece.number for piece in room.pieces), default=-1)
    owners = [(piece.number, piece.number, piece.name) for piece in room.pieces if piece.number in scan.seen]
    owners += [(FLOOR, last + 1, "floor"), (WALL, last + 2, "wall")]
    groups: list[dict[str, Any]] = []
    for owner, number, label in owners:
        segments = np.unique(scan.segments[scan.owners == owner]).tolist()
        if segments:
            groups.append({"id": len(groups), "objectId": number, "segments": segments, "label": label})
    return groups


def _alignment(room: Room) -> np.ndarray:
    """Rigid transform (4, 4) from the frame of the written points to that of the room, rounded as in the file.

    It is a random rotation about the vertical and a translation that makes the written coordinates positive.
    """
    rng = np.random.default_rng([room.detail_seed, 2])
    angle = rng.uniform(-math.pi, math.pi)
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    reach = math.hypot(*room.size[:2]) / 2
    corner = np.array([reach, reach, 0]) + rng.uniform(0, 0.5, 3)
    align = np.eye(4)
    align[:3, :3], align[:3, 3] = turn, -turn @ corner
    return align.round(6)


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8", newline="\n")
