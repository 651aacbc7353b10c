"""Scans in ScanNet's layout: references to their clouds, and their objects with validated boxes.

ScanNet does not annotate boxes: the box of an object is the axis-aligned bounding box of the vertices of its segments
in the aligned scan. Vertex positions are therefore read while samples are created, but not kept; the workers load the
clouds again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.base import BadItemError, BlemishError, DataFolder, need
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import object_number, plain_label, shown, take
from octavius.boxes import Box3D
from octavius.boxes3d import box_error, from_edges
from octavius.instruction.sample import Media, Region
from octavius.media.clouds import read_points
from octavius.media.scan_frame import axis_alignment

LAYOUT = """\
  <root>/scans/<scan>/<scan>_vh_clean_2.ply                  the mesh (of test scans: in <root>/scans_test)
  <root>/scans/<scan>/<scan>_vh_clean_2.0.010000.segs.json   the segment that each vertex is in
  <root>/scans/<scan>/<scan>.aggregation.json                the objects, as lists of segments
  <root>/scans/<scan>/<scan>.txt                             the axis alignment
"""

MESH, SEGMENTS = "{0}_vh_clean_2.ply", "{0}_vh_clean_2.0.010000.segs.json"
OBJECTS, INFO = "{0}.aggregation.json", "{0}.txt"
"""File names; {0} is the name of the scan."""

NO_EXTENT = "has no extent"
"""Beginning of the message for an annotated object without segments or with a flat box: a known blemish."""

LARGEST = 2**31 - 1
"""Largest segment id accepted."""

STRUCTURE = ("wall", "walls", "floor", "ceiling")
"""Last words of the raw categories that NYU40 maps to wall, floor and ceiling."""


@dataclass(frozen=True)
class ScanObject:
    """One object of a scan.

    Attributes:
        id: the `objectId` of the aggregation file, by which all annotations of ScanNet refer to it.
        label: its raw category, as the annotators wrote it, with spaces for underscores.
        box: centre and size in metres, in the aligned frame.
        points: its number of vertices.
    """

    id: str
    label: str
    box: Box3D
    points: int


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes:
        name: such as `scene0000_00`.
        cloud: reference to its mesh, with the pose that aligns it. If objects were requested, also with their
            boxes, without duplicates, walls, floors and ceilings.
        objects: its usable objects by id; empty if not requested.
        broken: for its other objects what is wrong with them, by id.
    """

    name: str
    cloud: Media
    objects: Mapping[str, ScanObject]
    broken: Mapping[str, str]

    def object(self, name: str) -> ScanObject:
        """Looks an object up by id.

        Raises:
            BadItemError: there is no such object, or it is broken.
        """
        if name in self.broken:
            kind = BlemishError if self.broken[name].startswith(NO_EXTENT) else BadItemError
            raise kind(f"object {name} of {self.name} {self.broken[name]}")
        if name not in self.objects:
            known = ", ".join([*self.objects][:20])
            more = ", .." if len(self.objects) > 20 else ""
            raise BadItemError(f"{self.name} has no object {shown(name)}; it has {known}{more}")
        return self.objects[name]

    def distinct(self) -> list[ScanObject]:
        """The objects without duplicates: the official scene0217_00 lists all of its objects twice."""
        found = dict[tuple[str, Box3D], ScanObject]()
        for one in self.objects.values():
            found.setdefault((one.label, one.box), one)
        return list(found.values())

    def region(self, name: str) -> Media:
        """Reference to one object of the scan.

        Raises:
            BadItemError: there is no such object, or it is broken.
        """
        return Media(path=self.cloud.path, pose=self.cloud.pose, region=Region(name, self.object(name).box))


class Scans:
    """The scans below a root; each is read only once, however many samples refer to it."""

    def __init__(self, root: Path, layout: str) -> None:
        """Finds the folders of scans; `layout` is the whole directory tree, for the error message.

        Raises:
            DatasetNotFoundError: there is no such folder.
        """
        need(root, layout, "scans/", "scans_test/")
        self._folders = [
            DataFolder(root / home) for home in ("scans", "scans_test") if (root / home).is_dir()
        ]

    def annotated(self, name: str) -> bool:
        """Whether a scan has both files that define its objects; test scans do not."""
        return all(file.is_file() for file in self._paths(name, (SEGMENTS, OBJECTS)))

    def files(self, name: str, objects: bool = True) -> tuple[Path, ...]:
        """Paths at which a scan's files are expected, with or without those that define its objects."""
        return self._paths(name, (MESH, INFO, SEGMENTS, OBJECTS) if objects else (MESH, INFO))

    def scan(self, name: str, objects: bool = True) -> Scan:
        """One scan, with or without its objects.

        Raises:
            BadItemError: a file is missing or malformed, or the files do not match.
        """
        files = self.files(name, objects)
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise BadItemError(f"the scan {name} lacks {' and '.join(missing)} in {files[0].parent}")
        stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        found = _read(name, files, stamps)
        if isinstance(found, str):
            raise BadItemError(found)
        return found

    def _paths(self, name: str, patterns: tuple[str, ...]) -> tuple[Path, ...]:
        homes = [folder for folder in self._folders if (folder.path / name).is_dir()] or self._folders
        return tuple(homes[0].file(f"{name}/{pattern.format(name)}") for pattern in patterns)


def object_id(record: object, key: str) -> str:
    """The id of an object under a key of a JSON object; see `object_number`."""
    return object_number(take(record, key, object), f"'{key}'")


def is_structure(label: str) -> bool:
    """Whether a raw category is part of the building, by its last word.

    >>> [is_structure(label) for label in ("wall", "shower floor", "floor mat")]
    [True, True, False]
    """
    return label.rpartition(" ")[2] in STRUCTURE


@cache
def _read(name: str, files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> Scan | str:  # noqa: ARG001
    """One scan, or what is wrong with it; cached while the files' timestamps and sizes (`stamps`) are unchanged.

    Several benchmarks and many samples refer to the same scan. Errors are returned instead of raised, because `cache`
    does not keep exceptions and a broken scan would be read again and again.
    """
    mesh, info, *annotated = files
    try:
        cloud = Media(path=mesh, pose=axis_alignment(info))
        xyz = read_points(cloud)[:, :3]
        if not annotated:
            return Scan(name, cloud, {}, {})
        segments_file, objects_file = annotated
        objects, broken = _objects(xyz, segments_file, objects_file)
    except ValueError as error:
        return f"the scan {name} cannot be used: {error}"
    found = Scan(name, cloud, objects, broken)
    things = tuple(one.box for one in found.distinct() if not is_structure(one.label))
    return replace(found, cloud=replace(cloud, objects=things))


def _objects(
    xyz: np.ndarray, segments_file: Path, objects_file: Path
) -> tuple[dict[str, ScanObject], dict[str, str]]:
    """The objects with their boxes by id, and what is wrong with the others by id."""
    segments = _segments(segments_file, len(xyz))
    # Bounds of all segments in one pass: sort the vertices by segment, then reduce each contiguous run.
    order = np.argsort(segments, kind="stable")
    names, starts, counts = np.unique(segments[order], return_index=True, return_counts=True)
    sorted_xyz = xyz[order].astype(np.float64)
    edges = np.concatenate(
        [np.minimum.reduceat(sorted_xyz, starts), np.maximum.reduceat(sorted_xyz, starts)], axis=1
    )
    index_of = {int(segment): index for index, segment in enumerate(names)}
    objects, broken = dict[str, ScanObject](), dict[str, str]()
    for group in _list(objects_file, "segGroups"):
        key, label = object_id(group, "objectId"), take(group, "label", str)
        wanted = set(_whole(take(group, "segments", list), f"the segments of object {key}"))
        found = [index_of[segment] for segment in wanted if segment in index_of]
        if len(found) < len(wanted) or not found:
            unknown = sorted(wanted - index_of.keys())
            broken[key] = (
                f"has segments without vertices: {unknown[:5]}" if unknown else f"{NO_EXTENT}: no segment"
            )
            continue
        low, high = edges[found, :3].min(axis=0), edges[found, 3:].max(axis=0)
        x, y, z, dx, dy, dz = from_edges(np.concatenate([low, high])).tolist()
        one = ScanObject(key, plain_label(label), (x, y, z, dx, dy, dz), int(counts[found].sum()))
        if said := box_error(one.box):
            flat = min(one.box[3:]) == 0
            broken[key] = f"{NO_EXTENT if flat else 'has a bad box'} around its {one.points} points: {said}"
        elif objects.setdefault(key, one) != one:
            broken[key] = f"occurs twice in {objects_file.name}, with different content"
    return {key: one for key, one in objects.items() if key not in broken}, broken


def _segments(file: Path, vertices: int) -> np.ndarray:
    """The segment id of every vertex, (P,)."""
    segments = np.array(_whole(_list(file, "segIndices"), f"the segIndices in {file.name}"))
    if len(segments) != vertices:
        raise BadItemError(
            f"{file.name} has the segments of {len(segments)} vertices, but the mesh has {vertices}; "
            "one of the files is cut short, or they are of different scans"
        )
    return segments


def _list(file: Path, key: str) -> list[Any]:
    try:
        return take(load_json(file, dict), key, list)
    except BadItemError as error:
        raise BadItemError(f"{file.name}: {error}") from None


def _whole(values: list[Any], what: str) -> list[int]:
    for value in values:
        if type(value) is not int or not 0 <= value <= LARGEST:
            raise BadItemError(f"{what} should be whole numbers of 0 to {LARGEST}, found {shown(value)}")
    return values
