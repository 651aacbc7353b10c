"""PCD files of all kinds, and damaged ones."""

import struct
from pathlib import Path

import numpy as np
import pytest

from octavius.media.pcd import read_pcd

HEAD = (
    "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\n"
    "COUNT {counts}\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
)
POINTS = np.array([(1.5, -2, 3), (4, 5, 6), (4, 5, 7)], "<f4")


def head(data: str, points: int = 3, fields: str = "x y z", **changed: str) -> bytes:
    count = len(fields.split())
    said = {"sizes": " ".join("4" * count), "types": " ".join("F" * count), "counts": " ".join("1" * count)}
    return HEAD.format(fields=fields, points=points, data=data, **(said | changed)).encode()


def literal(content: bytes) -> bytes:
    """LZF without repetitions."""
    runs = [content[start : start + 32] for start in range(0, len(content), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def compressed(columns: bytes, packed: bytes) -> bytes:
    return struct.pack("<II", len(packed), len(columns)) + packed


CONTENTS = {
    "ascii": head("ascii") + b"1.5 -2 3\n4 5 6\n4 5 7\n",
    "binary": head("binary") + POINTS.tobytes(),
    "compressed": head("binary_compressed") + compressed(POINTS.T.tobytes(), literal(POINTS.T.tobytes())),
}


@pytest.mark.parametrize("form", CONTENTS)
def test_points_of_each_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.pcd").write_bytes(CONTENTS[form])
    found = read_pcd(tmp_path / "a.pcd")
    np.testing.assert_array_equal(np.stack([found[name] for name in "xyz"], axis=1), POINTS)


def test_repetitions_are_decompressed(tmp_path: Path) -> None:
    """24 zeros of x and y: one literal zero, and a copy of 23 bytes from one byte before, which overlaps."""
    columns = bytes(24) + struct.pack("<3f", 1, 2, 3)
    packed = bytes([0, 0]) + bytes([7 << 5, 23 - 9, 0]) + bytes([11]) + columns[24:]
    (tmp_path / "a.pcd").write_bytes(head("binary_compressed") + compressed(columns, packed))
    found = read_pcd(tmp_path / "a.pcd")
    assert found["x"].tolist() == found["y"].tolist() == [0, 0, 0]
    assert found["z"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", ["F", "U"])
def test_packed_colours(tmp_path: Path, kind: str) -> None:
    rows = b"".join(struct.pack("<3fI", 0, 0, index, 0xFF00_8001) for index in range(3))
    header = head("binary", fields="x y z rgb", types=f"F F F {kind}")
    (tmp_path / "a.pcd").write_bytes(header + rows)
    found = read_pcd(tmp_path / "a.pcd")
    assert [found[name][0] for name in ("red", "green", "blue")] == [0, 0x80, 1]


def test_padding_and_fields_of_several_numbers(tmp_path: Path) -> None:
    header = head("binary", fields="x y z _ normal", sizes="4 4 4 1 4", types="F F F U F", counts="1 1 1 4 3")
    rows = b"".join(struct.pack("<3f4x3f", *point, 0, 0, 1) for point in POINTS)
    (tmp_path / "a.pcd").write_bytes(header + rows)
    found = read_pcd(tmp_path / "a.pcd")
    assert found["z"].tolist() == [3, 6, 7]
    assert found["normal"][2].tolist() == [0, 0, 1]


BROKEN = {
    "more promised": (
        head("binary", 4) + POINTS.tobytes(),
        "promises 4 points, 3 follow; the file may be cut",
    ),
    "any number promised": (head("binary", 10**15), "promises 10{15} points, 0 follow"),
    "fewer promised": (head("ascii", 2) + b"0 0 0\n1 1 1\n2 2 2\n", "promises 2 points, 3 follow"),
    "words": (head("ascii") + b"0 0 0\n1 1 one\n2 2 2\n", "its points cannot be read"),
    "no end": (b"# .PCD v0.7\nVERSION .7\nFIELDS x y z\n", "has no line DATA"),
    "unknown lines": (b"VERSION .7\nCOLOURS yes\n", "the line 'COLOURS yes' of the PCD header is unknown"),
    "unknown data": (head("zipped"), "expected DATA ascii, binary or binary_compressed, found 'zipped'"),
    "unknown type": (head("binary", types="F F D"), "TYPE D and COUNT 1; expected"),
    "float of a byte": (head("binary", sizes="4 4 1"), "the fields of the PCD header cannot be read"),
    "fewer sizes": (head("binary", sizes="4 4"), "as many of SIZE, TYPE and COUNT"),
    "no number": (head("binary").replace(b"POINTS 3", b"POINTS x"), "expected the number of points"),
    "damaged": (
        head("binary_compressed") + compressed(POINTS.tobytes(), b"\xff\xff\xff"),
        "its compressed points cannot be read",
    ),
    "cut": (CONTENTS["compressed"][:-3], "its compressed points cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    content, message = BROKEN[case]
    (tmp_path / "a.pcd").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pcd: .*{message}"):
        read_pcd(tmp_path / "a.pcd")
