"""The forms of point clouds that are read, each recognised by its content, so that a wrong suffix does no harm."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from octavius.files import open_file
from octavius.media.arrays import MAGIC, array_names, load_array, load_arrays
from octavius.media.kinds import LONGEST, kind_of
from octavius.media.meshes import read_mesh
from octavius.media.pcd import read_pcd
from octavius.media.ply import read_vertices

SUFFIXES = (".ply", ".npy", ".npz", ".pcd", ".xyz", ".xyzrgb", ".pts", ".obj", ".off", ".stl")
"""Suffixes of files that are taken for clouds in a folder."""

TAKEN = (
    "clouds are read from PLY and PCD (text or binary), from .npy and .npz with points (P, 3), or with colours "
    "(P, 6), from text with 3 or 6 numbers a line (.xyz, .pts), and from meshes as OBJ, OFF or STL"
)

PLACES, COLOURS = ("points", "xyz", "coords", "coord", "pos"), ("colors", "colours", "color", "colour", "rgb")
"""Names of arrays in `.npz` files."""

_BEGIN = 4096
_OBJ = re.compile(rb"^\s*(v|vn|vt|vp|mtllib|usemtl|o|g|s|f)[ \t]")
_NUMBERS = re.compile(rb"^\s*[-+]?(\d|\.\d|nan|inf)", re.IGNORECASE)
_COMMENTS = (b"#", b"//")


def read_columns(path: Path) -> np.ndarray:
    """The content of a cloud file: positions (P, 3), with colours (P, 6), or a structured array with named columns.

    Raises:
        ValueError: the file does not exist, has an unknown form, or is damaged.
    """
    try:
        with open_file(path) as file:
            begin = file.read(_BEGIN)
            size = file.seek(0, 2)
        read = _reader(begin, size)
        if read is None:
            found = kind_of(path, begin[:LONGEST])
            raise ValueError(f"{path} is no point cloud that can be read, it seems to be {found}; {TAKEN}")
        return read(path)
    except FileNotFoundError:
        raise ValueError(f"no cloud file at {path}; check the data root and the annotation file") from None
    except OSError as error:
        raise ValueError(f"the cloud file {path} cannot be read: {error.strerror}") from None
    except MemoryError:
        raise ValueError(f"the cloud file {path} does not fit into memory") from None


def _reader(begin: bytes, size: int) -> Callable[[Path], np.ndarray] | None:
    """What reads a file that begins so; None if it has no form that is known."""
    if begin.startswith(b"ply") and begin[3:4] in (b"\n", b"\r", b" "):
        return read_vertices
    if begin.startswith(MAGIC):
        return load_array
    if begin.startswith(b"PK\3\4"):
        return _archive
    if begin.startswith((b"# .PCD", b"VERSION ", b"VERSION\t")):
        return read_pcd
    if size == 84 + 50 * int.from_bytes(begin[80:84], "little") and size > 84:
        return partial(read_mesh, form="stl")
    if b"\0" in begin:
        return None
    if re.match(rb"\s*solid\b[^\n]*\n\s*facet\b", begin):
        return partial(read_mesh, form="stl")
    if re.match(rb"\s*OFF(\s|\d)", begin):
        return partial(read_mesh, form="off")
    lines = [line for line in begin.splitlines() if line.strip() and not line.lstrip().startswith(_COMMENTS)]
    if lines and _OBJ.match(lines[0]):
        return partial(read_mesh, form="obj")
    return _text if lines and _NUMBERS.match(lines[0]) else None


def _text(path: Path) -> np.ndarray:
    """Points as lines of numbers, between spaces, commas or semicolons; a first line may hold their number."""
    with open_file(path) as file:
        lines = file.read().splitlines()
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith(_COMMENTS)]
    separator = next((one for one in (b",", b";") if one in lines[0]), None)
    promised = int(lines[0]) if lines[0].strip().isdigit() else None
    rows = [row.replace(separator, b" ") for row in lines] if separator else lines[promised is not None :]
    try:
        points = np.loadtxt(rows, np.float64, comments=None, ndmin=2) if rows else np.empty((0, 3))
    except (ValueError, OverflowError) as error:
        found = str(error).partition("; use ")[0][:200].rstrip(".")  # without the advice to programmers
        raise ValueError(f"{path}: its points cannot be read as text: {found}; {TAKEN}") from None
    if promised is not None and promised != len(points):
        raise ValueError(
            f"{path}: its first line promises {promised} points, {len(points)} follow; the file may be cut short: "
            "copy it again"
        )
    if points.shape[1] == 7 and promised is not None:  # .pts of laser scanners: x y z intensity r g b
        points = np.delete(points, 3, axis=1)
    if points.shape[1] not in (3, 6):
        raise ValueError(
            f"{path}: expected 3 numbers a line, or 6 with red, green and blue, found {points.shape[1]}; remove "
            "other columns"
        )
    return points


def _archive(path: Path) -> np.ndarray:
    """The cloud of an `.npz` file: its only array, or those with usual names."""
    names = array_names(path)
    place = names[0] if len(names) == 1 else next((name for name in PLACES if name in names), None)
    if place is None:
        raise ValueError(
            f"{path}: expected a single array, or one called {' or '.join(PLACES)}, found "
            f"{', '.join(sorted(names))[:100] or 'none'}"
        )
    colour = next((name for name in COLOURS if name in names), None) if len(names) > 1 else None
    found = load_arrays(path, [place] if colour is None else [place, colour])
    points = found[place]
    if colour is None:
        return points
    shapes = points.shape, found[colour].shape
    if points.ndim != 2 or points.shape[1] != 3 or shapes[0] != shapes[1]:
        raise ValueError(
            f"{path}: expected {place} and {colour} of one shape (P, 3), found {shapes[0]} and {shapes[1]}"
        )
    columns = dict(zip(("x", "y", "z", "red", "green", "blue"), (*points.T, *found[colour].T), strict=True))
    rows = np.empty(len(points), np.dtype([(name, column.dtype) for name, column in columns.items()]))
    for name, column in columns.items():
        rows[name] = column
    return rows
