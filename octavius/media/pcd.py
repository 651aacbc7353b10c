"""PCD reader: the points of a file of the Point Cloud Library, as one structured array.

Text, binary and compressed files of the versions 0.6 and 0.7. Packed colours become `red`, `green` and `blue`.
The number of points that a header promises is compared with the file size before memory is allocated.
"""

import math
from io import BufferedReader
from pathlib import Path

import numpy as np

from octavius.files import open_file

MOST_UNPACKED = 1 << 30
"""Bytes that compressed points may have."""

_LONGEST_HEADER = 1 << 16
_KINDS = {"I": "i", "U": "u", "F": "f"}
_AGAIN = "the file may be cut short or damaged: copy it again"
_PACKED = ("rgb", "rgba")
_KEYS = frozenset(
    (
        "VERSION",
        "FIELDS",
        "COLUMNS",
        "SIZE",
        "TYPE",
        "COUNT",
        "WIDTH",
        "HEIGHT",
        "VIEWPOINT",
        "POINTS",
        "DATA",
    )
)


def read_pcd(path: Path) -> np.ndarray:
    """The points (P,) of a PCD file, with a named field for each column.

    Raises:
        ValueError: the header is malformed, or the number of points differs from the header's.
    """
    with open_file(path) as file:
        header = _header(file, path)
        count, dtype = _count(header, path), _dtype(header, path)
        match header["DATA"]:
            case ["ascii"]:
                points = _text(file, dtype, count, path)
            case ["binary"]:
                points = _records(file.read(), dtype, count, path)
            case ["binary_compressed"]:
                points = _compressed(file, dtype, count, path)
            case words:
                raise ValueError(
                    f"{path}: expected DATA ascii, binary or binary_compressed, found {' '.join(words)[:40]!r}"
                )
    return _unpacked(points)


def _header(file: BufferedReader, path: Path) -> dict[str, list[str]]:
    """The words of each line of the header, by the first of them."""
    found = dict[str, list[str]]()
    while "DATA" not in found:
        line = file.readline(_LONGEST_HEADER)
        words = line.decode("latin-1").split()
        if not line or file.tell() > _LONGEST_HEADER:
            raise ValueError(f"{path}: the PCD header has no line DATA; {_AGAIN}")
        if not words or words[0].startswith("#"):
            continue
        if words[0] not in _KEYS:
            raise ValueError(f"{path}: the line {' '.join(words)[:60]!r} of the PCD header is unknown")
        found["FIELDS" if words[0] == "COLUMNS" else words[0]] = words[1:]
    return found


def _count(header: dict[str, list[str]], path: Path) -> int:
    """The number of points: POINTS, or WIDTH times HEIGHT."""
    given = [header.get(name) for name in (("POINTS",) if "POINTS" in header else ("WIDTH", "HEIGHT"))]
    if not all(words is not None and len(words) == 1 and words[0].isdecimal() for words in given):
        raise ValueError(f"{path}: expected the number of points in the PCD header, as POINTS 1000")
    return math.prod(int(words[0][:18]) for words in given if words)


def _dtype(header: dict[str, list[str]], path: Path) -> np.dtype:
    names = header.get("FIELDS", [])
    rows = [header.get(name, []) for name in ("SIZE", "TYPE")]
    counts = header.get("COUNT", ["1"] * len(names))
    if not names or any(len(row) != len(names) for row in (*rows, counts)):
        raise ValueError(f"{path}: expected FIELDS in the PCD header, and as many of SIZE, TYPE and COUNT")
    columns = list[tuple[str, str, tuple[int, ...]]]()
    for index, (name, size, kind, count) in enumerate(zip(names, *rows, counts, strict=True)):
        if kind not in _KINDS or size not in ("1", "2", "4", "8") or not count.isdecimal() or len(count) > 6:
            raise ValueError(
                f"{path}: the field {name[:40]!r} of the PCD header has SIZE {size[:9]}, TYPE {kind[:9]} and COUNT "
                f"{count[:9]}; expected 1, 2, 4 or 8, one of {', '.join(_KINDS)}, and a number"
            )
        unique = name if name != "_" and name not in names[:index] else f"_{index}"  # `_` is padding
        columns.append((unique, f"<{_KINDS[kind]}{size}", () if count == "1" else (int(count),)))
    try:
        return np.dtype(columns)
    except (TypeError, ValueError) as error:  # such as a float of one byte
        raise ValueError(f"{path}: the fields of the PCD header cannot be read: {error}") from None


def _text(file: BufferedReader, dtype: np.dtype, count: int, path: Path) -> np.ndarray:
    lines = [line for line in file.read().splitlines() if line.strip()]
    if len(lines) != count:
        raise ValueError(f"{path}: {_promised(count, len(lines))}")
    try:
        return np.loadtxt(lines, dtype, comments=None, ndmin=1) if lines else np.empty(0, dtype)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: its points cannot be read: {str(error)[:200]}") from None


def _records(content: bytes, dtype: np.dtype, count: int, path: Path) -> np.ndarray:
    if len(content) != count * dtype.itemsize and (len(content) < count * dtype.itemsize or not count):
        raise ValueError(f"{path}: {_promised(count, len(content) // dtype.itemsize)}")
    return np.frombuffer(content, dtype, count)


def _compressed(file: BufferedReader, dtype: np.dtype, count: int, path: Path) -> np.ndarray:
    """Compressed points are stored field by field, not point by point."""
    sizes = np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4")
    packed, size = int(sizes[0]), int(sizes[1])
    if size != count * dtype.itemsize or size > MOST_UNPACKED:
        raise ValueError(f"{path}: {_promised(count, size // dtype.itemsize)}")
    content = file.read(packed)
    fields = _unzipped(content, size) if len(content) == packed else None
    if fields is None:
        raise ValueError(f"{path}: its compressed points cannot be read; {_AGAIN}")
    points, offset = np.empty(count, dtype), 0
    for name in dtype.names or ():
        field = dtype[name]
        points[name] = np.frombuffer(fields, field, count, offset)
        offset += count * field.itemsize
    return points


def _unzipped(content: bytes, size: int) -> bytearray | None:
    """Decompresses LZF; None if the content does not decompress to this size."""
    found, at = bytearray(), 0
    try:
        while at < len(content) and len(found) <= size:
            control = content[at]
            at += 1
            if control < 32:  # literal bytes
                found += content[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += content[at]
                at += 1
            start = len(found) - ((control & 31) << 8) - content[at] - 1
            at += 1
            if start < 0:
                return None
            for _ in range(length + 2):  # source and target may overlap
                found.append(found[start])
                start += 1
    except IndexError:
        return None
    return found if at == len(content) and len(found) == size else None


def _unpacked(points: np.ndarray) -> np.ndarray:
    """Replaces a column of packed colours, 0x00RRGGBB in the bits of an integer or of a float, by three columns."""
    names = points.dtype.names or ()
    name = next((name for name in _PACKED if name in names and points.dtype[name].itemsize == 4), None)
    if name is None:
        return points
    kept = [one for one in names if one != name]
    packed = np.ascontiguousarray(points[name]).view("<u4")
    kinds = [*((one, points.dtype[one]) for one in kept), *((one, "u1") for one in ("red", "green", "blue"))]
    found = np.empty(len(points), np.dtype(kinds))
    for one in kept:
        found[one] = points[one]
    for one, shift in (("red", 16), ("green", 8), ("blue", 0)):
        found[one] = packed >> shift & 255
    return found


def _promised(count: int, found: int) -> str:
    return f"its header promises {count} points, {found} follow; {_AGAIN}"
