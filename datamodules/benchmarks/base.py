"""Files of an official layout come in; checked JSON, paths and boxes go out, or an error that helps."""

import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Literal, Protocol, TypeAlias, TypeVar
from xml.etree.ElementTree import Element, ParseError, fromstring

from octavius.boxes import Box, clip, normalise, problem
from octavius.instruction.sample import Sample

T = TypeVar("T")

BadPolicy: TypeAlias = Literal["error", "skip"]

PIXELS_OUTSIDE = 2.0  # official annotations overshoot the image by rounding, never by more than this

DAMAGED = "The file may be cut short or damaged: compare it with the original and copy it again."

KIND_WORDS = {
    str: "a text",
    int: "a whole number",
    list: "a list",
    dict: "an object",
    object: "a number or a text",
}


class Reader(Protocol):
    """What every reader of this folder is: annotation files in, samples out, no pixel touched."""

    def __call__(self, root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
        """Reads one split of the data set under `root`."""
        ...


class DatasetNotFoundError(FileNotFoundError):
    """A file or folder that the official layout promises is not there."""


class BadItemError(ValueError):
    """What is wrong with one item; `BadItems` adds where, and either stops or goes on."""


def need(root: Path, layout: str, *alternatives: str) -> Path:
    """The first of the alternatives that exists under the root; a name that ends in `/` is a folder.

    Args:
        root: the folder of the data set.
        layout: the official tree, as the error shows it.
        alternatives: paths relative to the root.
    """
    for relative in alternatives:
        path = root / relative
        if path.is_dir() if relative.endswith("/") else path.is_file():
            return path
    if root.is_dir():
        found = f"{' and '.join(alternatives)} not found in the data folder {root}"
    else:
        found = f"the data folder {root} does not exist (needed from it: {' or '.join(alternatives)})"
    raise DatasetNotFoundError(
        f"{found}.\nExpected layout:\n{layout}"
        f"Put the data set there, or set its root to the folder that holds this layout."
    )


def load_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file whose top level is of the given kind."""
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{path} is not valid JSON at {where}: {error.msg}. {DAMAGED}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 at byte {error.start}. {DAMAGED}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, a number of too many digits
        raise ValueError(f"{path} is not usable JSON: {error}. {DAMAGED}") from None
    if not isinstance(content, kind):
        expected, found = kind_word(kind), kind_word(type(content))
        raise ValueError(
            f"{path}: expected {expected} at its top level, found {found}; is it the right file?"
        )
    return content


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, each with its number, counted from 1."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 at byte {error.start}. {DAMAGED}") from None
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def parse_xml(document: str | bytes, source: str) -> Element:
    """The root of an XML document; `source` names it in the error."""
    try:
        return fromstring(document)
    except (ParseError, ValueError, LookupError) as error:  # the last two: its encoding
        raise BadItemError(f"{source} is not valid XML: {error}") from None


def kind_word(kind: type) -> str:
    """A JSON type in words."""
    return KIND_WORDS.get(kind, kind.__name__)


def take(record: object, key: str, kind: type[T]) -> T:
    """The value under a key of a JSON object, when it is there and of that kind."""
    if not isinstance(record, dict):
        raise BadItemError(f"expected an object with the key '{key}', found {record!r:.60}")
    if key not in record:
        raise BadItemError(f"the key '{key}' is missing; found the keys {sorted(map(str, record))}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadItemError(f"'{key}' should be {kind_word(kind)}, found {value!r:.60}")
    return value


def take_text(record: object, key: str) -> str:
    """The text under a key of a JSON object, without white space at its ends, when any is left."""
    text = take(record, key, str).strip()
    if not text:
        raise BadItemError(f"'{key}' is empty")
    return text


class BadItems:
    """Stops at the first bad item (`error`), or counts the bad ones and warns once (`skip`)."""

    def __init__(self, policy: BadPolicy, source: Path) -> None:
        """Watches the items of one annotation file or folder."""
        self.policy = policy
        self.source = source
        self.count = 0
        self.first = ""

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Runs the reading of one item; `where` says which it is."""
        try:
            yield
        except BadItemError as error:
            reason = f"{self.source}, {where}: {error}"
            if self.policy != "skip":
                raise ValueError(f"{reason}. Correct it, or leave such items out with bad=skip.") from None
            self.count += 1
            self.first = self.first or reason

    def report(self) -> None:
        """Warns once about everything left out so far."""
        if self.count:
            items = "1 bad item" if self.count == 1 else f"{self.count} bad items"
            warnings.warn(f"{items} left out of {self.source}; the first: {self.first}", stacklevel=3)


class DataFolder:
    """Joins file names out of annotation files to one folder, and refuses those that lead out of it.

    A link is followed only while it stays inside. Links are found by listing each folder once, because
    asking for every single file is slow on a network disk; whether a file exists is left to the loader.
    """

    def __init__(self, path: Path) -> None:
        """The folder itself is trusted, and may be a link to anywhere."""
        self.path = path
        self._real = path.resolve()
        self._links: dict[Path, frozenset[str]] = {}

    def file(self, name: str) -> Path:
        """The path of one file, given relative to the folder."""
        windows = PureWindowsPath(name)  # it splits at both kinds of slash, and knows drives
        if windows.drive or windows.root or ".." in windows.parts or "\0" in name:
            raise self._outside(name)
        path = self.path.joinpath(*windows.parts)
        if path == self.path or not name.strip():
            raise BadItemError("the name of the file is empty")
        if path.name in self._links_beside(path) and not self._holds(path):
            raise self._outside(name)
        return path

    def _links_beside(self, path: Path) -> frozenset[str]:
        folder = path.parent
        if folder not in self._links:
            if not self._holds(folder):
                raise self._outside(str(path.relative_to(self.path)))
            try:
                with os.scandir(folder) as entries:
                    self._links[folder] = frozenset(entry.name for entry in entries if entry.is_symlink())
            except OSError:
                reason = f"the folder {folder}, which should hold '{path.name}', cannot be read"
                raise BadItemError(reason) from None
        return self._links[folder]

    def _holds(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._real)
        except (OSError, RuntimeError):  # links in a circle
            return False

    def _outside(self, name: str) -> BadItemError:
        return BadItemError(
            f"the path '{name}' leads out of the data folder {self.path}; "
            f"expected a relative path that stays inside"
        )


def numbers(values: Sequence[object], count: int) -> tuple[float, ...]:
    """The values as floats, when they are that many finite numbers."""
    if len(values) != count:
        raise BadItemError(f"expected {count} numbers, found {len(values)}: {list(values)!r:.80}")
    floats = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadItemError(f"expected a number, found {value!r:.60}")
        number = float(value) if abs(value) < 1e300 else math.inf
        if not math.isfinite(number):
            raise BadItemError(f"expected a finite number, found {value!r:.60}")
        floats.append(number)
    return tuple(floats)


def checked_box(box: Box, tolerance: float) -> Box:
    """A box of fractions clipped to the image, when it is outside by no more than the tolerance."""
    inside = clip(box)
    reason = problem(box, tolerance) or problem(inside)
    if reason:
        raise BadItemError(f"bad box: {reason}")
    return inside


def pixel_box(edges: Sequence[float], width: float, height: float) -> Box:
    """Pixel edges (x1, y1, x2, y2) as a box of fractions, clipped when slightly outside the image."""
    if width <= 0 or height <= 0:
        raise BadItemError(f"the image size should be positive, found {width:g} x {height:g}")
    limits = (width, height, width, height)
    reason: str | None = f"an edge lies more than {PIXELS_OUTSIDE:g} pixels outside the image"
    if all(
        -PIXELS_OUTSIDE <= edge <= limit + PIXELS_OUTSIDE for edge, limit in zip(edges, limits, strict=True)
    ):
        box = clip(normalise(edges, width, height))
        reason = problem(box)
        if reason is None:
            return box
    shown = ", ".join(f"{edge:g}" for edge in edges)
    raise BadItemError(f"bad box: {reason} (pixels [{shown}] in an image of {width:g} x {height:g})")
