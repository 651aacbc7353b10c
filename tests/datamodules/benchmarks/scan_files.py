"""Writes scans in ScanNet's layout, by code that is independent of the readers."""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Point = tuple[float, float, float]
Matrix = list[list[float]]

NAME = "scene0000_00"
MESH = "{0}_vh_clean_2.ply"
SEGMENTS = "{0}_vh_clean_2.0.010000.segs.json"
AGGREGATION = "{0}.aggregation.json"
INFO = "{0}.txt"


@dataclass(frozen=True)
class Thing:
    """An object: its label, and its lowest and highest corner in the aligned room."""

    label: str
    low: Point
    high: Point

    @property
    def box(self) -> tuple[float, ...]:
        """Centre and size."""
        ends = list(zip(self.low, self.high, strict=True))
        return (*((a + b) / 2 for a, b in ends), *(b - a for a, b in ends))

    def corners(self) -> list[Point]:
        """Its eight corners, the only vertices it has."""
        ends = list(zip(self.low, self.high, strict=True))
        return [(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]]


TABLE = Thing("coffee table", (0.0, 0.0, 0.0), (1.0, 0.5, 0.5))
CHAIR = Thing("chair", (2.0, 1.0, 0.0), (2.5, 1.5, 1.0))
FLOOR = Thing("floor", (-1.0, -1.0, -0.1), (4.0, 3.0, 0.0))


def alignment(degrees: float = 30.0, shift: Point = (1.0, -2.0, 0.5)) -> Matrix:
    """A turn about the vertical, then a shift."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [[cos, -sin, 0, shift[0]], [sin, cos, 0, shift[1]], [0, 0, 1, shift[2]], [0, 0, 0, 1]]


def unaligned(point: Point, matrix: Matrix) -> Point:
    """The place in the file of a point of the aligned room: shifted back, then turned back."""
    x, y, z = (point[axis] - matrix[axis][3] for axis in range(3))
    a, b, c = (matrix[0][axis] * x + matrix[1][axis] * y + matrix[2][axis] * z for axis in range(3))
    return a, b, c


def ply(points: Sequence[Point]) -> bytes:
    """A mesh with grey vertices and no face."""
    names = [
        *(f"float {axis}" for axis in "xyz"),
        *(f"uchar {name}" for name in ("red", "green", "blue", "alpha")),
    ]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [
        *(f"property {name}" for name in names),
        "element face 0",
        "property list uchar int vertex_indices",
    ]
    header = "\n".join([*lines, "end_header\n"])
    return header.encode() + b"".join(struct.pack("<fffBBBB", *point, 51, 51, 51, 255) for point in points)


def write_scan(
    root: Path,
    things: Sequence[Thing] = (FLOOR, TABLE, CHAIR),
    name: str = NAME,
    matrix: Matrix | None = None,
    home: str = "scans",
) -> Path:
    """A scan whose objects have two segments each, and one stray vertex in a segment of its own."""
    folder = root / home / name
    folder.mkdir(parents=True)
    points, segments, groups = [(9.0, 9.0, 9.0)], [7], list[dict[str, Any]]()
    for index, thing in enumerate(things):
        points += thing.corners()
        segments += [100 + index] * 3 + [200 + index] * 5
        own = {"id": index, "objectId": index, "segments": [200 + index, 100 + index], "label": thing.label}
        groups.append(own)
    info = "colorHeight = 968\n"
    if matrix is not None:
        points = [unaligned(point, matrix) for point in points]
        info += f"axisAlignment = {' '.join(f'{number:.9f}' for row in matrix for number in row)} \n"
    (folder / MESH.format(name)).write_bytes(ply(points))
    (folder / SEGMENTS.format(name)).write_text(json.dumps({"sceneId": name, "segIndices": segments}))
    (folder / AGGREGATION.format(name)).write_text(
        json.dumps({"sceneId": f"scannet.{name}", "segGroups": groups})
    )
    (folder / INFO.format(name)).write_text(info + "sceneType = Living room / Lounge\n")
    return folder


def edit(file: Path, **changes: Any) -> None:
    """Changes keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_labels(root: Path) -> None:
    """The table of labels, of a few rows and columns."""
    rows = [
        ("id", "raw_category", "category", "nyu40id", "nyu40class", "ModelNet40"),
        ("1", "wall", "wall", "1", "wall", ""),
        ("2", "chair", "chair", "5", "chair", "chair"),
        ("3", "floor", "floor", "2", "floor", ""),
        ("13", "coffee table", "coffee table", "7", "table", "table"),
        ("14", "office  chair", "office chair", "5", "chair", ""),
    ]
    text = "".join("\t".join(row) + "\n" for row in rows)
    (root / "scannetv2-labels.combined.tsv").write_text(text)
