"""PLY files of any number format are read; broken ones are refused with one message."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.media.cloud_forms import read_columns
from octavius.media.ply import read_vertices

HEADER = """ply
format {form} 1.0
comment made by hand
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
property uchar alpha
element face 1
property list uchar int vertex_indices
end_header
"""
FORMS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
Row = tuple[float, float, float, int, int, int, int]
coordinate = st.floats(-100, 100, width=32)
byte = st.integers(0, 255)
rows_of_points = st.lists(st.tuples(coordinate, coordinate, coordinate, byte, byte, byte, byte), max_size=5)


def content(rows: list[Row], form: str, count: int | None = None) -> bytes:
    """A mesh of one face, its numbers packed one by one."""
    header = HEADER.format(form=form, count=len(rows) if count is None else count).encode()
    if form == "ascii":
        return header + "".join(" ".join(map(repr, row)) + "\n" for row in rows).encode() + b"3 0 1 2\n"
    packed = b"".join(struct.pack(f"{FORMS[form]}fffBBBB", *row) for row in rows)
    return header + packed + struct.pack(f"{FORMS[form]}Biii", 3, 0, 1, 2)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ply") / "mesh.ply"


@pytest.mark.parametrize("form", FORMS)
@given(rows=rows_of_points)
def test_vertices_come_back(file: Path, form: str, rows: list[Row]) -> None:
    file.write_bytes(content(rows, form))
    found = read_vertices(file)
    assert found.dtype.names == ("x", "y", "z", "red", "green", "blue", "alpha")
    assert [tuple(row.tolist()) for row in found] == rows


def test_other_elements_and_types_are_passed_over(file: Path) -> None:
    header = (
        "ply\r\nformat binary_little_endian 1.0\r\nelement camera 2\r\nproperty double f\r\nproperty short n\r\n"
        "element vertex 1\r\nproperty float32 x\r\nproperty int16 y\r\nproperty uint8 z\r\nend_header\r\n"
    )
    body = struct.pack("<dhdh", 0.5, 1, 0.25, 2) + struct.pack("<fhB", 1.5, -7, 200)
    file.write_bytes(header.encode() + body)
    assert read_vertices(file).tolist() == [(1.5, -7, 200)]


def test_vertices_in_text_of_float_colours(file: Path) -> None:
    file.write_text(
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float red\nend_header\n1 0.5\n2 1\n"
    )
    assert np.array_equal(read_vertices(file)["red"], np.array([0.5, 1], np.float32))


def with_lists(form: str) -> bytes:
    """Faces before the vertices, and lists within those."""
    header = (
        f"ply\nformat {form} 1.0\ncomment a list\nobj_info 3 faces\nelement face 3\nproperty uchar flags\n"
        "property list uchar int vertex_indices\nelement vertex 2\nproperty float x\n"
        "property list ushort float weights\nproperty double y\nend_header\n"
    )
    faces, vertices = [(7, (0, 1, 1)), (8, ()), (9, (1, 0, 0, 1))], [(1.5, (), -2.0), (2.5, (9.0, 8.0), 3.0)]
    if form == "ascii":
        rows = [f"{flags} {len(places)} {' '.join(map(str, places))}" for flags, places in faces]
        rows += [f"{x} {len(some)} {' '.join(map(str, some))} {y}" for x, some, y in vertices]
        return (header + "\n".join(rows) + "\n").encode()
    order = FORMS[form]
    packed = b"".join(struct.pack(f"{order}BB{len(row)}i", flags, len(row), *row) for flags, row in faces)
    packed += b"".join(struct.pack(f"{order}fH{len(row)}fd", x, len(row), *row, y) for x, row, y in vertices)
    return header.encode() + packed


@pytest.mark.parametrize("form", FORMS)
def test_lists_before_and_within_the_vertices_are_passed_over(file: Path, form: str) -> None:
    file.write_bytes(with_lists(form))
    found = read_vertices(file)
    assert found.dtype.names == ("x", "y")
    assert found.tolist() == [(1.5, -2.0), (2.5, 3.0)]


def test_text_with_the_line_ends_of_windows(file: Path) -> None:
    file.write_bytes(content([(1, 2, 3, 4, 5, 6, 7)], "ascii").replace(b"\n", b"\r\n"))
    assert read_vertices(file).tolist() == [(1, 2, 3, 4, 5, 6, 7)]


GOOD = content([(1, 2, 3, 4, 5, 6, 7)] * 3, "binary_little_endian")
BROKEN = {
    "another format": (b"solid cube\n", "is not a PLY file: its first line should be 'ply'"),
    "nothing": (b"", "is not a PLY file"),
    "an endless header": (b"ply\nformat ascii 1.0\n", "the PLY header has no end; the file may be cut short"),
    "a header of noise": (b"ply\n" + bytes(range(128, 256)) * 1000, "header"),
    "no format": (b"ply\nelement vertex 0\nproperty float x\nend_header\n", "the PLY header names no format"),
    "an unknown format": (
        b"ply\nformat zipped 1.0\nend_header\n",
        "the line 'format zipped 1.0' .* is unknown",
    ),
    "an unknown type": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty half x\nend_header\n",
        "the line 'property half x' of the PLY header is unknown",
    ),
    "a number of vertices below zero": (
        b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n",
        "'element vertex -1'",
    ),
    "no vertices": (
        b"ply\nformat ascii 1.0\nelement face 0\nproperty float x\nend_header\n",
        "expected an element 'vertex' in the PLY header, found face",
    ),
    "no property": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n",
        "the element 'vertex' of the PLY header has no property",
    ),
    "a property twice": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\nend_header\n1 1\n",
        "the element 'vertex' should name each property once: x, x",
    ),
    "lists that are longer than the file": (
        b"ply\nformat binary_little_endian 1.0\nelement face 1\nproperty list uint int i\nelement vertex 0\n"
        b"property float x\nend_header\n\xff\xff\xff\x7f",
        "promises 1 of the element 'face', 0 follow",
    ),
    "lists of a length below zero": (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list char int i\nproperty float x\n"
        b"end_header\n\xffabcd",
        "a list of the element 'vertex' says that it has -1 values",
    ),
    "lists of another length than they say": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int i\nproperty float x\nend_header\n2 5 1\n",
        "its vertex rows cannot be read: '2 5 1' has other lists than it says",
    ),
    "a list of an unknown type": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list half int i\nend_header\n",
        "the line 'property list half int i' of the PLY header is unknown",
    ),
    "more vertices than promised": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n2\n",
        "promises 1 of the element 'vertex', more follow",
    ),
    "more binary vertices than promised": (
        b"ply\nformat binary_big_endian 1.0\nelement vertex 1\nproperty float x\nend_header\n" + bytes(8),
        "promises 1 of the element 'vertex', more follow",
    ),
    "a number of vertices of many digits": (
        b"ply\nformat ascii 1.0\nelement vertex " + b"9" * 5000 + b"\nend_header\n",
        "of the PLY header is unknown",
    ),
    "a number that does not fit": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty uchar red\nend_header\n300\n",
        "its vertex rows cannot be read",
    ),
    "a cut end": (
        GOOD[: -(13 + 16 + 5)],
        "header promises 3 of the element 'vertex', 1 follow; .* copy it again",
    ),
    "a huge promise": (
        GOOD.replace(b"vertex 3", b"vertex 30000000000000"),
        "promises 30000000000000 of the element 'vertex', 3 follow",
    ),
    "a cut text": (
        b"ply\nformat ascii 1.0\nelement vertex 30000000000000\nproperty float x\nend_header\n1\n\n2\n",
        "promises 30000000000000 of the element 'vertex', 2 follow",
    ),
    "too few numbers": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1\n",
        "its vertex rows cannot be read: .* columns",
    ),
    "words for numbers": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\none\n",
        "its vertex rows cannot be read: could not convert string 'one'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(file: Path, case: str) -> None:
    broken, message = BROKEN[case]
    file.write_bytes(broken)
    with pytest.raises(ValueError, match=message) as caught:
        read_vertices(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no cloud file at .*gone\.ply; check the data root"):
        read_columns(tmp_path / "gone.ply")
    with pytest.raises(ValueError, match=r"the cloud file .* cannot be read: Is a directory"):
        read_columns(tmp_path)
    os.mkfifo(tmp_path / "pipe.ply")
    with pytest.raises(ValueError, match=r"pipe\.ply cannot be read: Is a pipe"):
        read_columns(tmp_path / "pipe.ply")


@given(st.binary(max_size=60))
def test_no_content_does_more_than_raise_an_error(file: Path, noise: bytes) -> None:
    for start in (b"", GOOD[:30], GOOD[:150]):
        file.write_bytes(start + noise)
        with pytest.raises(ValueError, match="ply"):
            read_columns(file)
