"""A PLY file comes in, the properties of its vertices go out as one structured array.

Only the vertices are read: a cloud has no use for faces, which lie behind them in the files that scanners write.
The reader of PyPI, plyfile, is not used, because its licence (GPL) is not that of this project.
"""

import os
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

_NUMBERS = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_HEADER = 1 << 16
_AGAIN = "the file may be cut short or damaged: copy it again"


@dataclass
class _Element:
    """A part of the header: how many rows follow, and the names and types of their columns."""

    name: str
    count: int
    columns: list[tuple[str, str]] = field(default_factory=list)
    lists: bool = False


def read_vertices(path: Path) -> np.ndarray:
    """The vertices (P,) of a PLY file, text or binary, a named field for each of their properties.

    Raises:
        ValueError: no such file, none that is PLY, or fewer vertices than its header promises.
    """
    try:
        with path.open("rb") as file:
            order, elements = _header(file, path)
            places = [place for place, element in enumerate(elements) if element.name == "vertex"]
            if not places:
                found = ", ".join(element.name for element in elements) or "none"
                raise ValueError(f"{path}: expected an element 'vertex' in the PLY header, found {found}")
            first, vertex = elements[: places[0]], elements[places[0]]
            if vertex.lists or any(element.lists for element in first):
                raise ValueError(
                    f"{path}: lists in the PLY file's vertices, or before them, cannot be read; "
                    "save it with plain numbers, the vertices first"
                )
            read = _text if order == "=" else _binary
            for element in first:
                read(file, element, order, path)
            return read(file, vertex, order, path)
    except FileNotFoundError:
        raise ValueError(f"no cloud file at {path}; check the data root and the annotation file") from None
    except OSError as error:
        raise ValueError(f"the cloud file {path} cannot be read: {error.strerror}") from None


def _header(file: BinaryIO, path: Path) -> tuple[str, list[_Element]]:
    """The byte order of the numbers, `=` for text, and the elements."""
    if file.readline(16).strip() != b"ply":
        raise ValueError(f"{path} is not a PLY file: its first line should be 'ply'")
    order, elements = "", list[_Element]()
    while True:
        line = file.readline(_LONGEST_HEADER)
        words = line.decode("latin-1").split()
        if not line or file.tell() > _LONGEST_HEADER:
            raise ValueError(f"{path}: the PLY header has no end; {_AGAIN}")
        match words:
            case ["end_header"]:
                break
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", form, _] if form in _ORDERS:
                order = _ORDERS[form]
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name, int(count)))
            case ["property", "list", _, _, _] if elements:
                elements[-1].lists = True
            case ["property", kind, name] if elements and kind in _NUMBERS:
                elements[-1].columns.append((name, _NUMBERS[kind]))
            case _:
                raise ValueError(f"{path}: the line {' '.join(words)[:60]!r} of the PLY header is unknown")
    if not order:
        raise ValueError(f"{path}: the PLY header names no format; expected one of {', '.join(_ORDERS)}")
    return order, elements


def _dtype(element: _Element, order: str, path: Path) -> np.dtype:
    if not element.columns:
        raise ValueError(f"{path}: the element '{element.name}' of the PLY header has no property")
    try:
        return np.dtype([(name, order + kind) for name, kind in element.columns])
    except ValueError:  # a name that occurs twice
        names = ", ".join(name for name, _ in element.columns)
        raise ValueError(
            f"{path}: the element '{element.name}' should name each property once: {names}"
        ) from None


def _binary(file: BinaryIO, element: _Element, order: str, path: Path) -> np.ndarray:
    dtype = _dtype(element, order, path)
    found = _bytes_left(file) // dtype.itemsize
    if found < element.count:  # before so much memory is asked for
        raise ValueError(f"{path}: {_promised(element, found)}")
    return np.frombuffer(file.read(element.count * dtype.itemsize), dtype)


def _text(file: BinaryIO, element: _Element, order: str, path: Path) -> np.ndarray:
    dtype = _dtype(element, order, path)
    lines = list(islice((line for line in file if line.strip()), element.count))
    if len(lines) < element.count:
        raise ValueError(f"{path}: {_promised(element, len(lines))}")
    try:
        return np.loadtxt(lines, dtype, comments=None, ndmin=1) if lines else np.empty(0, dtype)
    except ValueError as error:
        raise ValueError(f"{path}: its {element.name} rows cannot be read: {error}") from None


def _bytes_left(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size - file.tell()


def _promised(element: _Element, found: int) -> str:
    return f"its header promises {element.count} of the element '{element.name}', {found} follow; {_AGAIN}"
