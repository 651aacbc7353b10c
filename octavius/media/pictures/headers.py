"""Checks and strips JPEG and TIFF headers before a decoder sees them.

Pillow reads all metadata, even if many small directory entries claim the same megabyte, so that a 1 MB file
can take tens of GB. After these checks it sees only metadata that affect colours, or whose claims are bounded
by the file size.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

ORIENTATION = 274
"""TIFF tag of the orientation."""

DIRECTORIES = (34665, 34853, 40965)
"""Tags whose value is the offset of another directory (EXIF, GPS, interoperability)."""

SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes per value, by TIFF type."""

KEPT = frozenset((*range(0xC0, 0xD0), *range(0xDB, 0xE0), 0xE0, 0xE2, 0xEE)) - {0xC8}
"""JPEG markers that pixels and colours depend on: tables, frames, JFIF, ICC profile, Adobe."""

METADATA = frozenset((*range(0xE0, 0xF0), 0xFE))
"""JPEG markers of application data and comments."""

SCANS = 100
"""Scans allowed in a progressive JPEG; typical ones have ten, and each takes as long as a whole image to decode."""


class Entry(NamedTuple):
    """Directory entry: tag, size of its values in bytes, and the raw value field (a value or an offset)."""

    tag: int
    size: int
    value: bytes


def split_jpeg(data: bytes) -> tuple[bytes, bytes]:
    """Splits a JPEG file into the file without metadata, and its EXIF data (empty if there are none).

    What colours depend on is kept: the JFIF and Adobe markers and the ICC profile.

    Raises:
        ValueError: it has so many scans that decoding would take minutes.
    """
    parts, exif, offset = [data[:2]], b"", 2
    while (offset := data.find(b"\xff", offset)) >= 0 and offset + 4 <= len(data):
        marker = data[offset + 1]
        if marker in (0xDA, 0xD9):  # start of scan, or end of image
            break
        if marker not in KEPT and marker not in METADATA:  # a marker without content, dropped
            offset += 1
            continue
        end = offset + 2 + max(int.from_bytes(data[offset + 2 : offset + 4], "big"), 2)
        content = data[offset + 4 : end]
        if marker == 0xE1 and content.startswith(b"Exif\0") and not exif:
            exif = content[6:]
        if marker in KEPT and (marker != 0xE2 or content.startswith(b"ICC_PROFILE\0")):
            parts.append(data[offset:end])
        offset = end
    offset = offset if offset >= 0 else len(data)
    rest = data[offset:]
    if (scans := rest.count(b"\xff\xda")) > SCANS:
        raise ValueError(f"it has {scans} scans, expected {SCANS} at most")
    return b"".join([*parts, rest]), exif


def orientation(data: bytes) -> int:
    """The orientation, 1 to 8, in the first directory of a TIFF structure such as EXIF data; 1 by default."""
    data = data.removeprefix(b"Exif\0\0")
    order = _order(data)
    try:
        for entry in _entries(data, order, _first(data, order), _big(data)):
            if entry.tag == ORIENTATION and entry.size == 2:
                value: int = struct.unpack(order + "H", entry.value[:2])[0]
                return value if 1 <= value <= 8 else 1
    except (struct.error, ValueError):  # like viewers, ignore unreadable metadata
        pass
    return 1


def check_tiff(data: bytes) -> None:
    """Refuses a TIFF file whose directories claim more than the file holds.

    Raises:
        ValueError: what is wrong.
    """
    order = _order(data)
    big, claimed, entries = _big(data), 0, 0
    waiting, seen = [_first(data, order)], set[int]()
    while waiting:
        offset = waiting.pop()
        if offset in seen or not 0 < offset < len(data):
            continue
        seen.add(offset)
        try:
            for entry in _entries(data, order, offset, big):
                entries += 1
                claimed += entry.size
                if claimed > 2 * len(data) + (1 << 16) or entries > 1 << 16:
                    raise ValueError("its directories claim more than the file holds")
                if entry.tag in DIRECTORIES:
                    waiting.append(struct.unpack(order + ("Q" if big else "I"), entry.value)[0])
        except struct.error:
            raise ValueError("a directory of it is cut short") from None


def _order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _big(data: bytes) -> bool:
    """Whether it is BigTIFF, with 8-byte offsets."""
    return data[2:3] == b"+"  # as Pillow tests it


def _first(data: bytes, order: str) -> int:
    """Offset of the first directory; 0 if the header is truncated."""
    form, start = ("Q", 8) if _big(data) else ("I", 4)
    part = data[start : start + struct.calcsize(order + form)]
    offset: int = struct.unpack(order + form, part)[0] if len(part) == struct.calcsize(order + form) else 0
    return offset


def _entries(data: bytes, order: str, offset: int, big: bool) -> Iterator[Entry]:
    """The entries of the directory at an offset."""
    count_form, entry_form = (order + "Q", order + "HHQ8s") if big else (order + "H", order + "HHI4s")
    (count,) = struct.unpack_from(count_form, data, offset)
    offset += struct.calcsize(count_form)
    for _ in range(count):
        tag, kind, number, value = struct.unpack_from(entry_form, data, offset)
        yield Entry(tag, number * SIZES.get(kind, 0), value)
        offset += struct.calcsize(entry_form)
