"""Parsers of annotation files (JSON, lines of text, CSV, XML), whose errors name the file.

They terminate on any input: pipes are refused, Python's parsers limit nesting and the size of numbers, and XML
entities, which can expand without bound or refer to other files, are refused.
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
"""Magic bytes of compressed files."""


def content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: the file cannot be read, or is compressed.
    """
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
    """The text of a UTF-8 file, without byte-order mark and with line feeds as line ends.

    Raises:
        ValueError: the file cannot be read, is compressed or is not UTF-8.
    """
    try:
        text = content_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 at byte {error.start}. {DAMAGED}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_json(path: Path, kind: type[T]) -> T:
    """Parses a JSON file whose top level is of the given type.

    It is an error if an object has one key twice with different values, of which `json` would keep the last.

    Raises:
        ValueError: the file is unreadable or malformed, or its top level is of another type.
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
        raise ValueError(f"{path}: {error}; delete the wrong one") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number with too many digits
        raise ValueError(f"{path} is not usable JSON: {error}. {DAMAGED}") from None
    if not isinstance(found, kind):
        raise ValueError(
            f"{path}: expected {kind_word(kind)} at its top level, found {kind_word(type(found))}; "
            "is it the right file?"
        )
    return found


def parse_line(line: str) -> Any:
    """Parses a line of a file of JSON lines, as strictly as `load_json`.

    Raises:
        BadItemError: it is malformed.
    """
    try:
        return json.loads(line, object_pairs_hook=_object)
    except BadItemError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadItemError(f"it is not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hook of `json.loads` that refuses different values under one key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = dict[str, Any]()
        for key, value in pairs:
            if key in seen and seen[key] != value:
                raise BadItemError(f"the key {shown(key)} occurs twice in one object, with different values")
            seen[key] = value
    return found


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a text file, stripped, each with its line number from 1.

    Raises:
        ValueError: the file cannot be read, is compressed or is not UTF-8.
    """
    # Not `splitlines`, which also breaks at characters that occur in captions, such as U+2028.
    lines = text_of(path).split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str | None, Any]]]:
    """The rows of a CSV file with a header line, each with the number of its last line.

    Args:
        path: the file.
        columns: columns that it must have.

    Raises:
        ValueError: a column is missing, or the file is malformed.
    """
    try:
        # strict: otherwise a stray quote would merge all lines up to the next quote into one field.
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
    """Parses an XML document; `source` is its name in errors.

    Raises:
        BadItemError: the document is malformed or declares a document type.
    """
    parser = XMLParser(target=_Plain())
    try:
        parser.feed(document)
        root = parser.close()
    except (ParseError, ValueError, LookupError) as error:  # the last two: a wrong encoding
        if isinstance(error, BadItemError):
            raise BadItemError(f"{source} {error}") from None
        raise BadItemError(f"{source} is not valid XML: {error}") from None
    assert isinstance(root, Element)
    return root


class _Plain(TreeBuilder):
    """Tree builder that refuses document type declarations, and with them custom entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        """Refuses the declaration."""
        raise BadItemError(
            "is not valid XML for annotations: it declares a document type, which could define entities; remove it"
        )
