"""Forms of clouds by their content, and those that are not read."""

import struct
from pathlib import Path

import numpy as np
import pytest

from octavius.instruction.sample import Media
from octavius.media.cloud_forms import read_columns
from octavius.media.clouds import read_points

PLACES = [(0, 0, 0), (1, 0, 0.5), (0, 2, 1)]
COLOURS = [(255, 0, 51), (0, 0, 0), (255, 255, 255)]
EXPECTED = np.concatenate([np.array(PLACES), np.array(COLOURS) / 255], axis=1)
ROWS = [(*place, *colour) for place, colour in zip(PLACES, COLOURS, strict=True)]


def lines(rows: list[tuple[float, ...]], between: str = " ", before: str = "") -> bytes:
    return "".join(f"{before}{between.join(map(str, row))}\n" for row in rows).encode()


PCD = (
    b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 3\nHEIGHT 1\n"
    b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA ascii\n"
) + lines([(*place, r << 16 | g << 8 | b) for place, (r, g, b) in zip(PLACES, COLOURS, strict=True)])

COLOURED = {
    "xyz": lines(ROWS),
    "of CloudCompare": b"//X Y Z R G B\n3\n" + lines(ROWS),
    "with commas": lines(ROWS, ", "),
    "with semicolons": b"# exported\n\n" + lines(ROWS, ";"),
    "pts": b"3\n" + lines([(*row[:3], -1200, *row[3:]) for row in ROWS]),
    "of Windows": lines(ROWS).replace(b"\n", b"\r\n"),
    "pcd": PCD,
    "obj": b"# points\no scan\n"
    + lines([(*row[:3], *(c / 255 for c in row[3:])) for row in ROWS], before="v "),
}


@pytest.mark.parametrize("case", COLOURED)
@pytest.mark.parametrize("name", ["scan.bin", "octavius-a8b3"])
def test_coloured_clouds_by_content(tmp_path: Path, case: str, name: str) -> None:
    (tmp_path / name).write_bytes(COLOURED[case])
    np.testing.assert_allclose(read_points(Media(path=tmp_path / name)), EXPECTED, atol=1e-6)


def test_clouds_without_colours_are_grey(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(lines(PLACES))
    found = read_points(Media(path=tmp_path / "a.xyz"))
    np.testing.assert_allclose(found[:, 3:], 0.4)


ARCHIVES = {
    "one": {"anything": np.array(ROWS, np.float32)},
    "two": {"points": np.array(PLACES), "colors": np.array(COLOURS, np.uint8), "labels": np.zeros(3)},
    "two others": {"coord": np.array(PLACES), "color": np.array(COLOURS) / 255},
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_of_arrays(tmp_path: Path, case: str) -> None:
    np.savez(tmp_path / "a.npz", **ARCHIVES[case])
    np.testing.assert_allclose(read_points(Media(path=tmp_path / "a.npz")), EXPECTED, atol=1e-6)


BAD_ARCHIVES = {
    "unknown names": (
        {"a": np.eye(3), "b": np.eye(3)},
        "expected a single array, or one called points or xyz",
    ),
    "other shapes": (
        {"xyz": np.eye(3), "rgb": np.eye(2)},
        r"one shape \(P, 3\), found \(3, 3\) and \(2, 2\)",
    ),
    "objects": ({"xyz": np.array([{}])}, "expected plain numbers"),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_other_archives_are_refused(tmp_path: Path, case: str) -> None:
    arrays, message = BAD_ARCHIVES[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz.*{message}"):
        read_columns(tmp_path / "a.npz")


NOT_TAKEN = {
    "scan.las": (b"LASF" + bytes(200), "a LAS or LAZ cloud"),
    "scan.e57": (b"ASTM-E57" + bytes(40), "an E57 cloud"),
    "scan.glb": (b"glTF\2\0\0\0", "a glTF model"),
    "scan.gltf": (b'{"asset": {}}', "a glTF model"),
    "scan.stl": (bytes(84), "an STL model"),
    "000000.bin": (bytes(64), "raw numbers without a header"),
    "scan.ply": (b"\x1f\x8b" + bytes(40), "a gzip archive"),
    "mesh.ply": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "page.ply": (b"<!DOCTYPE html>", "a web page"),
    "none.ply": (b"", "an empty file"),
    "notes.xyz": (b"x y z\n0 0 0\n", "a list of points in text"),
    "model.off": (b"COFF\n3 1 0\n", "an OFF model"),
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_other_forms_are_named_with_those_that_are_taken(tmp_path: Path, name: str) -> None:
    content, kind = NOT_TAKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{name} is no point cloud .* seems to be {kind}.*PLY and PCD.*OBJ"
    ):
        read_columns(tmp_path / name)


BAD_TEXTS = {
    "four": (b"0 0 0 1\n1 1 1 1\n", "expected 3 numbers a line, or 6 with red, green and blue, found 4"),
    "ragged": (b"0 0 0\n1 1\n", "its points cannot be read as text"),
    "words": (b"0 0 0\n1 1 one\n", "its points cannot be read as text"),
    "cut short": (b"3\n0 0 0\n1 1 1\n", "promises 3 points, 2 follow"),
    "not finite": (b"0 0 0\nnan 1 1\n", "1 of 2 points are NaN or infinite"),
    "out of range": (b"0 0 0 1 2 300\n1 1 1 1 1 1\n", "expected colours in 0..1 or 0..255"),
    "one": (b"0 0 0\n", "it has a single point"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_lists_of_points_are_refused(tmp_path: Path, case: str) -> None:
    content, message = BAD_TEXTS[case]
    (tmp_path / "a.xyz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.xyz: .*{message}"):
        read_points(Media(path=tmp_path / "a.xyz"))


def test_a_binary_stl_that_begins_as_text_does(tmp_path: Path) -> None:
    triangle = struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    (tmp_path / "a.stl").write_bytes(b"solid".ljust(80) + struct.pack("<I", 1) + triangle)
    assert len(read_points(Media(path=tmp_path / "a.stl"))) == 8192


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no cloud file at .*gone\.xyz; check the data root"):
        read_columns(tmp_path / "gone.xyz")
    with pytest.raises(ValueError, match=r"the cloud file .* cannot be read: Is a directory"):
        read_columns(tmp_path)
