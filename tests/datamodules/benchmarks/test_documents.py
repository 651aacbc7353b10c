"""Documents of arbitrary bytes are parsed, or refused by name; parsing always ends."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.benchmarks.base import BadItemError
from datamodules.benchmarks.documents import load_json, parse_xml, read_lines, read_table


def written(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "a.file"
    file.write_bytes(content)
    return file


READERS: dict[str, Callable[[Path], object]] = {
    "json": lambda path: load_json(path, list),
    "lines": read_lines,
    "table": lambda path: list(read_table(path, ["a"])),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_at_a_pipe(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe cannot be read: Is a pipe"):
        READERS[reader](tmp_path / "pipe")
    with pytest.raises(ValueError, match="Is a directory"):
        READERS[reader](tmp_path)
    with pytest.raises(ValueError, match=r"gone cannot be read: No such file"):
        READERS[reader](tmp_path / "gone")


@pytest.mark.parametrize("reader", READERS)
def test_a_packed_file_is_to_be_unpacked(tmp_path: Path, reader: str) -> None:
    with pytest.raises(ValueError, match=r"is compressed by gzip; unpack it first"):
        READERS[reader](written(tmp_path, gzip.compress(b"[]")))
    with pytest.raises(ValueError, match=r"is compressed by zip; unpack it first"):
        READERS[reader](written(tmp_path, b"PK\x03\x04rest"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_in_the_encodings_that_its_standards_knew(tmp_path: Path, encoding: str) -> None:
    file = written(tmp_path, json.dumps(["ü\U0001f600"], ensure_ascii=False).encode(encoding))
    assert load_json(file, list) == ["ü\U0001f600"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "not usable JSON: .*recursion"),
        (b'{"a":' * 100_000, "not usable JSON: .*recursion"),
        (b"[" + b"9" * 5_000 + b"]", "not usable JSON: .*digits"),
        (b'[{"a": 1, "a": 2}]', "the key 'a' occurs twice in one object, with different values"),
        (b'[1]\n{"a": 1}', "not valid JSON at line 2"),
        (b"[1, 2", "not valid JSON at line 1"),
        (b'["\xed\xa0\x80"]', "is not text in UTF-8|should be"),
        (b"", "not valid JSON"),
        (b"\0\0\0\0", "not valid JSON"),
    ],
)
def test_json_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    file = written(tmp_path, content)
    if b"\xed" in content:  # Python takes it for a surrogate, which is refused where the text is taken
        assert load_json(file, list) == ["\ud800"]
        return
    with pytest.raises(ValueError, match=message) as caught:
        load_json(file, list)
    assert str(file) in str(caught.value)


def test_a_key_that_stands_twice_with_one_value_says_one_thing(tmp_path: Path) -> None:
    assert load_json(written(tmp_path, b'{"a": [1], "a": [1]}'), dict) == {"a": [1]}


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    file = written(tmp_path, "one\u2028still\x0bone\r\n\rtwo\x85".encode())
    assert read_lines(file) == [(1, "one\u2028still\x0bone"), (3, "two")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'a,b\n1,"two\n3,four\n', "not a table in CSV at line 3"),
        (b'a,b\n1,"two"three\n', "not a table in CSV at line 2"),
        (b"b\n1\n", "expected the columns a, found .'b'"),
        (b"", "expected the columns a, found None"),
        (b'a\n"' + b"x" * 200_000 + b'"\n', "not a table in CSV at line 2: field larger"),
        (b"a\n\xff\n", "not text in UTF-8 at byte 2"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_table(written(tmp_path, content), ["a"]))


def test_a_field_of_a_table_may_hold_a_line_break(tmp_path: Path) -> None:
    rows = list(read_table(written(tmp_path, b'a,b\r\n1,"two\nlines"\r\n2,x\n'), ["a"]))
    assert rows == [(3, {"a": "1", "b": "two\nlines"}), (4, {"a": "2", "b": "x"})]


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "document",
    [
        f'<!DOCTYPE b [<!ENTITY l0 "lol">{LAUGHS}]><b>&l11;</b>',
        '<!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/passwd">]><b>&x;</b>',
        '<!DOCTYPE b SYSTEM "http://127.0.0.1/b.dtd"><b/>',
        '<?xml version="1.0"?><!DOCTYPE b><b/>',
        f'<!DOCTYPE b [<!ENTITY a "{"a" * 100_000}">]><b>{"&a;" * 10_000}</b>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_declares_no_entities(document: str, encoding: str) -> None:
    with pytest.raises(BadItemError, match=r"^here is not valid XML"):
        parse_xml(document.encode(encoding), "here")
    with pytest.raises(BadItemError, match=r"^here is not valid XML"):
        parse_xml(document, "here")


def test_deep_xml_is_read() -> None:
    depth = 20_000
    assert sum(1 for _ in parse_xml("<a>" * depth + "</a>" * depth, "here").iter("a")) == depth
