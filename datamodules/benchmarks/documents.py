"""Annotation files as JSON, lines, tables and XML: whole and as they say, or one error that names the file.

Whatever the bytes are, reading ends: pipes are refused, nesting and the size of numbers are limited by Python's own
parsers, and XML entities, which can grow a document without limit or name other files, are not expanded.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from datamodules.benchmarks.base import DAMAGED, BadItemError
from datamodules.benchmarks.values import kind_word, shown
from octavius.files import open_file

T = TypeVar("T")

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""First bytes of files that are to be unpacked first."""


def content_of(path: Path) -> bytes:
    """The bytes of a file."""
    try:
        with open_file(path) as file:
            content = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    for beginning, name in COMPRESSED.items():
        if content.startswith(beginning):
            raise ValueError(f"{path} is compressed by {name}; unpack it first")
    return content


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark; every line ends in a line feed."""
    try:
        text = content_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 at byte {error.start}. {DAMAGED}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file whose top level is of the given kind.

    Two values under one key of one object are an error: which of them counts differs between programs.
    """
    content = content_of(path)
    try:
        found = json.loads(content, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{path} is not valid JSON at {where}: {error.msg}. {DAMAGED}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 at byte {error.start}. {DAMAGED}") from None
    except BadItemError as error:
        raise ValueError(f"{path}: {error}; keep the right one") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, a number of too many digits
        raise ValueError(f"{path} is not usable JSON: {error}. {DAMAGED}") from None
    if not isinstance(found, kind):
        raise ValueError(
            f"{path}: expected {kind_word(kind)} at its top level, found {kind_word(type(found))}; "
            "is it the right file?"
        )
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = dict[str, Any]()
        for key, value in pairs:
            if key in seen and seen[key] != value:
                raise BadItemError(f"the key {shown(key)} stands twice in one object, with different values")
            seen[key] = value
    return found


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, each with its number, counted from 1."""
    # Not `splitlines`, which also breaks at characters that may stand in a caption, such as U+2028.
    lines = text_of(path).split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str | None, Any]]]:
    """The rows of a CSV file with a first line of names, each with the number of its last line.

    Args:
        path: of the file.
        columns: those that it must have.
    """
    try:
        # strict: a stray quote would take all lines up to the next one for a single field.
        table = csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True)
        missing = [column for column in columns if column not in (table.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path}: expected the columns {', '.join(missing)}, found {shown(table.fieldnames)}"
            )
        for row in table:
            yield table.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"{path} is not a table in CSV at line {table.reader.line_num}: {error}. {DAMAGED}"
        ) from None


def parse_xml(document: str | bytes, source: str) -> Element:
    """The root of an XML document; `source` names it in the error."""
    parser = XMLParser(target=_Plain())
    try:
        parser.feed(document)
        root = parser.close()
    except (ParseError, ValueError, LookupError) as error:  # the last two: its encoding
        if isinstance(error, BadItemError):
            raise BadItemError(f"{source} {error}") from None
        raise BadItemError(f"{source} is not valid XML: {error}") from None
    assert isinstance(root, Element)
    return root


class _Plain(TreeBuilder):
    """Builds the tree of a document that declares no type, and so no entities of its own."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        """Called where a type is declared."""
        raise BadItemError(
            "is not valid XML for annotations: it declares a document type, which they never have"
        )
