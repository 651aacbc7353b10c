"""Writes one room's scan in ScanNet's layout, in a frame that needs axis alignment."""

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
"""ScanNet's name of each room use."""

NYU40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *(
        "picture",
        "counter",
        "blinds",
        "desk",
        "shelves",
        "curtain",
        "dresser",
        "pillow",
        "mirror",
        "floor mat",
    ),
    *(
        "clothes",
        "ceiling",
        "books",
        "refridgerator",
        "television",
        "paper",
        "towel",
        "shower curtain",
        "box",
    ),
    *("whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure"),
    *("otherfurniture", "otherprop"),
)
"""Names of the NYU40 classes, starting with id 1; one is officially misspelt."""

COLUMNS = (
    *(
        "id",
        "raw_category",
        "category",
        "count",
        "nyu40id",
        "eigen13id",
        "nyuClass",
        "nyu40class",
        "eigen13class",
    ),
    *("ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid", "wnsynsetkey"),
    *("mpcat40", "mpcat40index"),
)
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
    """Writes the mesh (points only), segments, aggregation of the seen objects, and alignment.

    Args:
        folder: folder of this scan; it is created.
        name: name of the scan, such as `scene0000_00`.
        room: the facts; objects that the scan did not see are not annotated.
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
    """Writes the label table for these classes, wall and floor, with ScanNet's columns."""
    rows = [("wall", 1), ("floor", 2), *[(name, KINDS[name].nyu40) for name in names]]
    lines = ["\t".join(COLUMNS)]
    for number, (name, nyu40) in enumerate(rows, 1):
        filled = {"id": number, "raw_category": name, "category": name, "nyu40id": nyu40}
        filled["nyu40class"] = NYU40[nyu40 - 1]
        lines.append("\t".join(str(filled.get(column, "")) for column in COLUMNS))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _groups(room: Room, scan: Scan) -> list[dict[str, Any]]:
    """The seen objects with their numbers, then floor and walls with the next ones."""
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
    """A rotation about the vertical and a shift from the written points to the room's frame, (4, 4).

    It is rounded as written to the file. The written points have positive coordinates, as if the first camera
    had defined the frame.
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
