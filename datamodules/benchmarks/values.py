"""Type-checked access to values of annotation files; errors show what was found.

Annotation files may hold `"0"` for 0, `true` for 1, NaN for a width or a list for a string, so every reader takes its
values through these functions. They all raise `BadItemError`. Their argument `what` is the name of the value in the
message. Strings must be encodable in UTF-8: lone surrogates, which JSON can express, would end a run with an error
when a table is written.
"""

import math
import re
from collections.abc import Sequence
from reprlib import Repr
from typing import TypeVar

from datamodules.benchmarks.base import BadItemError
from octavius.boxes import Box, box_error, clip, normalise

T = TypeVar("T")

PIXELS_OUTSIDE = 2.0
"""Pixels by which a box may exceed its image; official annotations do so by rounding, never by more than this."""

LARGEST = 2**53
"""Largest integer accepted, exact as a float; official files have none above it."""

KIND_WORDS = {
    str: "a string",
    int: "a whole number",
    list: "a list",
    dict: "an object",
    object: "a number or a string",
}

_short = Repr()
_short.maxstring = _short.maxlong = _short.maxother = 60
_short.maxlevel = 3

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def shown(value: object) -> str:
    r"""A `repr` for messages, of bounded length however large or deep the value is.

    >>> shown([[[[["deep"]]]]]), shown("a\ud800")
    ('[[[[...]]]]', "'a\\ud800'")
    """
    return _short.repr(value)


def kind_word(kind: type) -> str:
    """Name of a JSON type for messages, such as "a list"."""
    return KIND_WORDS.get(kind, kind.__name__)


def take(record: object, key: str, kind: type[T]) -> T:
    """The value under a key of a JSON object, checked to be of a type.

    Raises:
        BadItemError: the record is not an object, or the key is missing or of another type. Booleans are not
            integers.
    """
    if not isinstance(record, dict):
        raise BadItemError(f"expected an object with the key '{key}', found {shown(record)}")
    if key not in record:
        raise BadItemError(f"the key '{key}' is missing; found the keys {shown(sorted(map(str, record)))}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadItemError(f"'{key}' should be {kind_word(kind)}, found {shown(value)}")
    if isinstance(value, str):
        text(value, f"'{key}'")
    return value


def text(value: object, what: str) -> str:
    """A string, stripped; may be empty.

    Args:
        value: the value found in a file.
        what: its name in the message.

    Raises:
        BadItemError: it is not a string, or has lone surrogates.
    """
    if not isinstance(value, str):
        raise BadItemError(f"{what} should be a string, found {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadItemError(
            f"{what} has half of a surrogate pair at character {error.start}, which is not valid text: {shown(value)}"
        ) from None
    return value.strip()


def full_text(value: object, what: str) -> str:
    """A string, stripped; must not be empty."""
    found = text(value, what)
    if not found:
        raise BadItemError(f"{what} is empty")
    return found


def take_text(record: object, key: str) -> str:
    """The non-empty string under a key of a JSON object, stripped."""
    return full_text(take(record, key, str), f"'{key}'")


def optional_text(record: dict[str, object], key: str) -> str:
    """The string under a key of a JSON object; empty if the key is missing, null or blank."""
    return "" if record.get(key) is None else text(record[key], f"'{key}'")


def texts(record: object, key: str, least: int = 1) -> tuple[str, ...]:
    """The list of non-empty strings under a key of a JSON object, at least `least` of them."""
    found = take(record, key, list)
    if len(found) < least:
        raise BadItemError(
            f"'{key}' should hold at least {least} string{'s' if least > 1 else ''}, found {len(found)}"
        )
    return tuple(full_text(value, f"'{key}'[{index}]") for index, value in enumerate(found))


def whole(value: object, what: str, least: int = 0, most: int = LARGEST) -> int:
    """An integer from `least` to `most`; `true` and 1.0 are refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadItemError(f"{what} should be a whole number, found {shown(value)}")
    if not least <= value <= most:
        raise BadItemError(f"{what} should be {least} to {most}, found {shown(value)}")
    return value


def flag(value: object, what: str) -> bool:
    """A boolean in JSON: 0, 1, false or true."""
    if not isinstance(value, bool) and (not isinstance(value, int) or value not in (0, 1)):
        raise BadItemError(f"{what} should be 0 or 1, found {shown(value)}")
    return bool(value)


def parsed_flag(written: str, what: str) -> bool:
    """A boolean in a table or XML file: 0 or 1."""
    if written.strip() not in ("0", "1"):
        raise BadItemError(f"{what} should be 0 or 1, found {shown(written)}")
    return written.strip() == "1"


def identity(value: object, what: str) -> str:
    """An id as a string; files store ids as integers or as strings, and 1 and "1" are the same id."""
    if isinstance(value, str):
        return full_text(value, what)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadItemError(f"{what} should be a whole number or a string, found {shown(value)}")
    return str(value)


def object_number(value: object, what: str) -> str:
    """The number of an object as a string of digits; official files store it as an integer or as a string."""
    digits = text(value, what) if isinstance(value, str) else repr(value) if type(value) is int else ""
    if not re.fullmatch(r"[0-9]{1,15}", digits, re.ASCII):
        raise BadItemError(f"{what} should be the number of an object, found {shown(value)}")
    return str(int(digits))


def plain_label(label: str) -> str:
    """A class name with single spaces for underscores and other white space.

    >>> plain_label("coffee_table ")
    'coffee table'
    """
    return " ".join(label.replace("_", " ").split())


def printable(name: str) -> str:
    r"""A file or folder name as a printable string; bytes that are not UTF-8 are escaped.

    >>> printable("caf\udce9")
    'caf\\xe9'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def parsed_number(written: str, what: str) -> float:
    """A finite number in a table or XML file; `nan`, `inf` and `1_0` are refused."""
    if not _NUMBER.fullmatch(written.strip()):
        raise BadItemError(f"expected a number {what}, found {shown(written)}")
    number = float(written)
    if not math.isfinite(number):
        raise BadItemError(f"expected a finite number {what}, found {shown(written)}")
    return number


def numbers(values: Sequence[object], count: int) -> tuple[float, ...]:
    """Converts a list of exactly `count` finite numbers to floats."""
    if len(values) != count:
        raise BadItemError(f"expected {count} numbers, found {len(values)}: {shown(list(values[:10]))}")
    floats = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadItemError(f"expected a number, found {shown(value)}")
        number = float(value) if abs(value) < 1e300 else math.inf
        if not math.isfinite(number):
            raise BadItemError(f"expected a finite number, found {shown(value)}")
        floats.append(number)
    return tuple(floats)


def checked_box(box: Box, tolerance: float) -> Box:
    """Clips a box (x1, y1, x2, y2) to the image, in fractions; refuses one outside by more than `tolerance`."""
    inside = clip(box)
    reason = box_error(box, tolerance) or box_error(inside)
    if reason:
        raise BadItemError(f"bad box: {reason}")
    return inside


def pixel_box(edges: Sequence[float], width: float, height: float) -> Box:
    """Converts a box (x1, y1, x2, y2) from pixels to fractions of the image.

    It is clipped if it exceeds the image by at most `PIXELS_OUTSIDE`, and refused otherwise.
    """
    if width <= 0 or height <= 0:
        raise BadItemError(f"the image size should be positive, found {width:g} x {height:g}")
    limits = (width, height, width, height)
    reason: str | None = f"an edge lies more than {PIXELS_OUTSIDE:g} pixels outside the image"
    if all(
        -PIXELS_OUTSIDE <= edge <= limit + PIXELS_OUTSIDE for edge, limit in zip(edges, limits, strict=True)
    ):
        box = clip(normalise(edges, width, height))
        reason = box_error(box)
        if reason is None:
            return box
    shown = ", ".join(f"{edge:g}" for edge in edges)
    raise BadItemError(f"bad box: {reason} (pixels [{shown}] in an image of {width:g} x {height:g})")
