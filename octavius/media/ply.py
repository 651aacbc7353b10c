"""PLY reader: the vertex properties of a text or binary file, as one structured array.

Only vertices are read; faces, which follow them in scanners' files, are not needed. The package plyfile is
not used because its licence (GPL) is incompatible with ours.
"""

import os
import struct
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from octavius.files import open_file

_NUMBERS = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_HEADER = 1 << 16
_DIGITS = 18
_AGAIN = "the file may be cut short or damaged: copy it again"


class _Property(NamedTuple):
    """A column: name and dtype; for list properties also the dtype of the list length."""

    name: str
    kind: str
    counted: str = ""


@dataclass
class _Element:
    """An element of the header: number of rows, and their columns."""

    name: str
    count: int
    columns: list[_Property] = field(default_factory=list)

    @property
    def lists(self) -> bool:
        """Whether rows have variable length."""
        return any(column.counted for column in self.columns)


def read_vertices(path: Path) -> np.ndarray:
    """The vertices (P,) of a PLY file, with a named field for each scalar property.

    Raises:
        ValueError: the file is not PLY, or the number of vertices differs from the header's.
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        order, elements = _header(file, path)
        indices = [index for index, element in enumerate(elements) if element.name == "vertex"]
        if not indices:
            found = ", ".join(element.name for element in elements)[:80] or "none"
            raise ValueError(f"{path}: expected an element 'vertex' in the PLY header, found {found}")
        read = _text if order == "=" else _binary
        for element in elements[: indices[0]]:
            read(file, element, order, path)
        vertices = read(file, elements[indices[0]], order, path)
        if indices[0] == len(elements) - 1 and _more(file, order, vertices):
            raise ValueError(
                f"{path}: its header promises {len(vertices)} of the element 'vertex', more follow; {_AGAIN}"
            )
        return vertices


def _header(file: BufferedReader, path: Path) -> tuple[str, list[_Element]]:
    """Byte order (`=` for text) and elements."""
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
            case ["element", name, count] if count.isdecimal() and len(count) <= _DIGITS:
                elements.append(_Element(name, int(count)))
            case ["property", "list", counted, kind, name] if elements and {counted, kind} <= _NUMBERS.keys():
                elements[-1].columns.append(_Property(name, _NUMBERS[kind], _NUMBERS[counted]))
            case ["property", kind, name] if elements and kind in _NUMBERS:
                elements[-1].columns.append(_Property(name, _NUMBERS[kind]))
            case _:
                raise ValueError(f"{path}: the line {' '.join(words)[:60]!r} of the PLY header is unknown")
    if not order:
        raise ValueError(f"{path}: the PLY header names no format; expected one of {', '.join(_ORDERS)}")
    return order, elements


def _dtype(element: _Element, order: str, path: Path) -> np.dtype:
    """The dtype of a row without its list properties."""
    names = [column.name for column in element.columns]
    if not names:
        raise ValueError(f"{path}: the element '{element.name}' of the PLY header has no property")
    if len({*names}) < len(names):
        raise ValueError(
            f"{path}: the element '{element.name}' should name each property once: {', '.join(names)[:80]}"
        )
    return np.dtype([(column.name, order + column.kind) for column in element.columns if not column.counted])


def _binary(file: BufferedReader, element: _Element, order: str, path: Path) -> np.ndarray:
    dtype = _dtype(element, order, path)
    shortest = sum(np.dtype(column.counted or column.kind).itemsize for column in element.columns)
    found = _bytes_left(file) // shortest
    if found < element.count:  # before that much memory is allocated
        raise ValueError(f"{path}: {_promised(element, found)}")
    if element.lists:
        return _binary_lists(file, element, order, path)
    content = bytearray(element.count * dtype.itemsize)
    if file.readinto(content) != len(content):
        raise ValueError(f"{path} ended while it was read")
    return np.frombuffer(content, dtype)


def _binary_lists(file: BufferedReader, element: _Element, order: str, path: Path) -> np.ndarray:
    """Rows of variable length, read one by one; the contents of lists are skipped."""
    start, content, offset = file.tell(), file.read(), 0
    steps = [
        (
            struct.Struct(order + np.dtype(column.counted or column.kind).char),
            np.dtype(column.kind).itemsize,
            column,
        )
        for column in element.columns
    ]
    rows = list[tuple[Any, ...]]()
    for number in range(element.count):
        row = list[Any]()
        for form, itemsize, column in steps:
            if offset + form.size > len(content):
                raise ValueError(f"{path}: {_promised(element, number)}")
            (value,) = form.unpack_from(content, offset)
            offset += form.size
            if column.counted:
                offset += _length(value, element, path) * itemsize
            else:
                row.append(value)
        if offset > len(content):
            raise ValueError(f"{path}: {_promised(element, number)}")
        rows.append(tuple(row))
    file.seek(start + offset)
    dtype = _dtype(element, order, path)
    return np.array(rows, dtype) if dtype.names else np.empty(len(rows), dtype)


def _text(file: BufferedReader, element: _Element, order: str, path: Path) -> np.ndarray:
    dtype = _dtype(element, order, path)
    lines = list(islice((line for line in file if line.strip()), element.count))
    if len(lines) < element.count:
        raise ValueError(f"{path}: {_promised(element, len(lines))}")
    if element.lists:
        lines = [_without_lists(line.split(), element, path) for line in lines]
    if not lines or not dtype.names:
        return np.empty(len(lines), dtype)
    try:
        return np.loadtxt(lines, dtype, comments=None, ndmin=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: its {element.name} rows cannot be read: {str(error)[:200]}") from None


def _without_lists(words: list[bytes], element: _Element, path: Path) -> bytes:
    """The words of a row that do not belong to lists."""
    kept, offset = list[bytes](), 0
    try:
        for column in element.columns:
            if column.counted:
                offset += 1 + _length(float(words[offset]), element, path)
            else:
                kept.append(words[offset])
                offset += 1
    except (IndexError, ValueError):
        offset = -1
    if offset != len(words):
        shown = b" ".join(words)[:60].decode("latin-1")
        raise ValueError(
            f"{path}: its {element.name} rows cannot be read: {shown!r} has other lists than it says"
        )
    return b" ".join(kept)


def _length(value: float, element: _Element, path: Path) -> int:
    """The number of values in a list."""
    if not (0 <= value < 1 << 31 and value == int(value)):
        raise ValueError(
            f"{path}: a list of the element '{element.name}' says that it has {value:g} values; {_AGAIN}"
        )
    return int(value)


def _more(file: BufferedReader, order: str, vertices: np.ndarray) -> bool:
    """Whether more data follow the last element than its number of rows accounts for."""
    if order == "=":
        return any(line.strip() for line in file)
    return bool(_bytes_left(file) >= max(vertices.dtype.itemsize, 1))


def _bytes_left(file: BufferedReader) -> int:
    return os.fstat(file.fileno()).st_size - file.tell()


def _promised(element: _Element, found: int) -> str:
    return f"its header promises {element.count} of the element '{element.name}', {found} follow; {_AGAIN}"
