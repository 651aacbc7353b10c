"""Clouds are read as points and colours in the frame of their pose, from files or arrays; bad ones are refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import Media, Pose
from octavius.media.clouds import Y_UP, CloudLoader, posed
from octavius.media.meshes import GREY

LOAD = CloudLoader()
NAN, INF = float("nan"), float("inf")
IDENTITY: Pose = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))


def ply(path: Path, rows: list[tuple[float, ...]], colours: str = "") -> Path:
    """A cloud in text; `colours` is their type."""
    names = ["float x", "float y", "float z"]
    names += [f"{colours} {name}" for name in ("red", "green", "blue")] if colours else []
    header = [f"property {name}" for name in names]
    lines = [" ".join(map(str, row)) for row in rows]
    start = ["ply", "format ascii 1.0", f"element vertex {len(rows)}", *header, "end_header"]
    path.write_text("\n".join([*start, *lines]) + "\n")
    return path


def array(*rows: tuple[float, ...], dtype: str = "float32") -> Media:
    return Media(array=np.array(rows, dtype))


def test_a_mesh_with_colours(tmp_path: Path) -> None:
    path = ply(tmp_path / "a.ply", [(1, 2, 3, 255, 0, 51), (4, 5, 6, 0, 0, 0)], "uchar")
    found = LOAD(Media(path=path))
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor([[1, 2, 3, 1, 0, 0.2], [4, 5, 6, 0, 0, 0]]))


def test_a_dark_mesh_is_no_bright_one(tmp_path: Path) -> None:
    path = ply(tmp_path / "a.ply", [(1, 2, 3, 1, 0, 0), (4, 5, 6, 1, 1, 1)], "uchar")
    assert LOAD(Media(path=path))[:, 3:].max() == pytest.approx(1 / 255)


def test_a_cloud_without_colours_is_grey(tmp_path: Path) -> None:
    path = ply(tmp_path / "a.ply", [(1, 2, 3), (4, 5, 6)])
    np.save(tmp_path / "a.npy", np.array([[1, 2, 3], [4, 5, 6]], "float64"))
    expected = torch.tensor([[1, 2, 3, GREY, GREY, GREY], [4, 5, 6, GREY, GREY, GREY]])
    assert torch.equal(LOAD(Media(path=path)), expected)
    assert torch.equal(LOAD(Media(path=tmp_path / "a.npy")), expected)


@pytest.mark.parametrize(
    ("colour", "dtype", "expected"),
    [
        ((0.5, 1.0, 0.0), "float32", (0.5, 1.0, 0.0)),
        ((51.0, 255.0, 0.0), "float32", (0.2, 1.0, 0.0)),
        ((51, 255, 0), "int64", (0.2, 1.0, 0.0)),
        ((1, 1, 1), "int64", (1 / 255, 1 / 255, 1 / 255)),
    ],
)
def test_colours_of_arrays(colour: tuple[float, ...], dtype: str, expected: tuple[float, ...]) -> None:
    found = LOAD(array((0, 0, 0, *colour), (1, 0, 0, *colour), dtype=dtype))
    assert found[0, 3:].tolist() == pytest.approx(expected)


def coloured(path: Path, names: str, *rows: tuple[float, ...]) -> np.ndarray:
    """The colours of a PLY cloud whose vertices have some properties behind their places."""
    header = "ply\nformat ascii 1.0\nelement vertex {}\n" + "property float {}\n" * 3
    properties = "".join(f"property {name}\n" for name in names.split(", "))
    lines = [" ".join(map(str, (index, 0, 0, *row))) for index, row in enumerate(rows)]
    path.write_text(header.format(len(rows), *"xyz") + properties + "end_header\n" + "\n".join(lines) + "\n")
    return LOAD(Media(path=path))[:, 3:].numpy()


COLOURED = {
    "of 8 bits": ("uchar red, uchar green, uchar blue", (255, 0, 51), (1, 0, 0.2)),
    "called diffuse": ("uchar diffuse_red, uchar diffuse_green, uchar diffuse_blue", (255, 0, 51), (1, 0, 0.2)),
    "of one letter": ("uint8 r, uint8 g, uint8 b", (255, 0, 51), (1, 0, 0.2)),
    "of CloudCompare": ("float scalar_R, float scalar_G, float scalar_B", (255, 0, 51), (1, 0, 0.2)),
    "of vertices": ("uchar vertex_red, uchar vertex_green, uchar vertex_blue", (255, 0, 51), (1, 0, 0.2)),
    "in capitals": ("uchar Red, uchar GREEN, uchar Blue", (255, 0, 51), (1, 0, 0.2)),
    "of 16 bits": ("ushort red, ushort green, ushort blue", (65535, 0, 13107), (1, 0, 0.2)),
    "of 16 bits in longer ones": ("int red, int green, int blue", (65535, 0, 13107), (1, 0, 0.2)),
    "of 8 bits in longer ones": ("ushort red, ushort green, ushort blue", (255, 0, 51), (1, 0, 0.2)),
    "of 8 bits in whole numbers": ("int red, int green, int blue", (255, 0, 51), (1, 0, 0.2)),
    "in fractions": ("float red, float green, float blue", (1, 0, 0.2), (1, 0, 0.2)),
    "in long fractions": ("double red, double green, double blue", (1, 0, 0.2), (1, 0, 0.2)),
    "of 8 bits in fractions": ("double r, double g, double b", (255.0, 0.0, 51.0), (1, 0, 0.2)),
    "in another order": ("uchar blue, uchar green, uchar red", (51, 0, 255), (1, 0, 0.2)),
    "behind normals": ("float nx, float ny, float nz, uchar red, uchar green, uchar blue, uchar alpha",
                       (0, 0, 1, 255, 0, 51, 0), (1, 0, 0.2)),
    "beside those of highlights": (
        "uchar specular_red, uchar specular_green, uchar specular_blue, uchar red, uchar green, uchar blue",
        (9, 9, 9, 255, 0, 51), (1, 0, 0.2)),
    "none, but normals": ("float nx, float ny, float nz, float confidence", (0, 0, 1, 1), (GREY, GREY, GREY)),
}  # fmt: skip


@pytest.mark.parametrize("case", COLOURED)
def test_colours_of_ply_files(tmp_path: Path, case: str) -> None:
    names, row, expected = COLOURED[case]
    found = coloured(tmp_path / "a.ply", names, row, row)
    np.testing.assert_allclose(found, [expected, expected], atol=1e-6)


def test_colours_just_above_one_are_rounded(tmp_path: Path) -> None:
    names = "float red, float green, float blue"
    found = coloured(tmp_path / "a.ply", names, (1.0001, 0.5, 0), (0, 0.25, 1))
    np.testing.assert_allclose(found, [(1, 0.5, 0), (0, 0.25, 1)], atol=1e-6)


NOT_COLOURED = {
    "packed": ("uint rgb", (16711680,), "its vertices have rgb, which are no colours"),
    "harmonics": (
        "float f_dc_0, float f_dc_1, float f_dc_2",
        (0.1, 0.2, 0.3),
        "its vertices have f_dc_0, f_dc_1",
    ),
    "two of three": ("uchar red, uchar green", (1, 2), "its vertices have red, green, which are no colours"),
    "of highlights alone": (
        "uchar specular_red, uchar specular_blue",
        (1, 2),
        "have specular_red, specular_blue",
    ),
    "numbered": ("uchar red8, uchar green8, uchar blue8", (1, 2, 3), "its vertices have red8"),
    "counted": ("uchar color0, uchar color1, uchar color2", (1, 2, 3), "its vertices have color0"),
    "of a column": ("uchar colR, uchar colG, uchar colB", (1, 2, 3), "its vertices have colR, colG, colB"),
    "two letters": ("uchar r, uchar g", (1, 2), "its vertices have r, g, which"),
    "of two widths": (
        "uchar red, uchar green, ushort blue",
        (255, 10, 400),
        "red, green, blue have the types",
    ),
    "of two scales": ("uchar red, float green, float blue", (255, 0.5, 1), "red, green, blue have the types"),
    "signed": (
        "char red, char green, char blue",
        (1, 2, 3),
        "expected colours of 8 bits .* found int8, 1 to 3",
    ),
    "below zero": ("short red, short green, short blue", (-1, 2, 300), "found int16, -1 to 300"),
    "of more bits": ("int red, int green, int blue", (0, 2, 70000), "found int32, 0 to 70000"),
    "too large fractions": (
        "float red, float green, float blue",
        (0, 2, 300),
        "in 0..1 or 0..255 .* found 0 to 300",
    ),
    "nothing": ("float red, float green, float blue", (NAN, 0, 0), "in 0..1 or 0..255"),
}


@pytest.mark.parametrize("case", NOT_COLOURED)
def test_colours_that_are_none_are_told(tmp_path: Path, case: str) -> None:
    names, row, message = NOT_COLOURED[case]
    with pytest.raises(ValueError, match=rf"a\.ply: .*{message}"):
        coloured(tmp_path / "a.ply", names, row, row)


def test_an_array_under_another_name_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.bin")
    assert LOAD(Media(path=tmp_path / "a.bin"))[:, :3].equal(torch.eye(3))


@given(
    angle=st.floats(-4, 4),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    point=st.tuples(*[st.floats(-9, 9, width=32)] * 3),
)
def test_the_pose_turns_and_shifts(
    angle: float, shift: tuple[float, float, float], point: tuple[float, float, float]
) -> None:
    cos, sin = math.cos(angle), math.sin(angle)
    pose: Pose = ((cos, -sin, 0, shift[0]), (sin, cos, 0, shift[1]), (0, 0, 1, shift[2]), (0, 0, 0, 1))
    x, y, z = point
    moved = (cos * x - sin * y + shift[0], sin * x + cos * y + shift[1], z + shift[2])
    assert posed(np.array([point]), pose)[0] == pytest.approx(moved, abs=1e-9)
    found = LOAD(Media(array=np.array([point, (100, 0, 0)], "float32"), pose=pose))
    assert found[0, :3].tolist() == pytest.approx(moved, abs=1e-4)


def test_y_up_becomes_z_up_without_a_mirror() -> None:
    up, right, front = np.eye(3)[[1, 0, 2]]
    turned = posed(np.stack([up, right, front]), Y_UP)
    assert turned[0].tolist() == [0, 0, 1]
    assert np.linalg.det(np.array(Y_UP)[:3, :3]) == pytest.approx(1)
    assert np.array_equal(posed(np.eye(3), IDENTITY), np.eye(3))


BAD = {
    "empty": (Media(array=np.zeros((0, 3))), "the cloud is empty, it has no point"),
    "one point": (array((1, 2, 3)), "it has a single point, a cloud needs an extent"),
    "one place": (array((1, 2, 3), (1, 2, 3)), "all its 2 points lie at one place"),
    "NaN": (
        array((1, 2, 3), (4, NAN, 6), (INF, 2, 3)),
        "2 of 3 points are NaN or infinite, the first is number 1",
    ),
    "too few columns": (array((1, 2), (3, 4)), r"expected points \(P, 3\), .* found float32 \(2, 2\)"),
    "a line of numbers": (Media(array=np.zeros(3)), r"found float64 \(3,\)"),
    "texts": (Media(array=np.array([["a", "b", "c"]])), "expected points"),
    "normals": (array((0, 0, 0, 0, 0, -1), (1, 0, 0, 0, 0, 1)), "found -1 to 1; if these are normals, keep"),
    "colours above bytes": (array((0, 0, 0, 0, 0, 256), (1, 0, 0, 0, 0, 1)), "found 0 to 256"),
    "a place that single precision cannot hold": (
        array((0, 0, 0), (1e300, 0, 0), dtype="float64"),
        "some points lie beyond 1e.09 metres, at 1e.300",
    ),
    "a cloud far from the origin": (
        array((4_000_000, 0, 0), (4_000_020, 1, 1), dtype="float64"),
        "extends over 20 metres and lies up to 4.00002e.06 from the origin, .* steps of 0.25; move it",
    ),
    "complex places": (array((1, 2, 3), (4, 5, 6), dtype="complex64"), "expected points .* found complex64"),
    "dates": (array((1, 2, 3), (4, 5, 6), dtype="M8[s]"), r"expected points .* found datetime64\[s\]"),
    "truths": (array((1, 0, 0), (0, 1, 0), dtype="bool"), "expected points .* found bool"),
    "a colour that is none": (array((0, 0, 0, NAN, 0, 1), (1, 0, 0, 0, 0, 1)), "expected colours"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_clouds(tmp_path: Path, case: str) -> None:
    media, message = BAD[case]
    with pytest.raises(ValueError, match=f"^the array: .*({message})"):
        LOAD(media)
    np.save(tmp_path / "a.npy", np.asarray(media.array))
    with pytest.raises(ValueError, match=rf"a\.npy: .*({message})"):
        LOAD(Media(path=tmp_path / "a.npy"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no cloud file at .*gone\.npy; check the data root"):
        LOAD(Media(path=tmp_path / "gone.npy"))
    (tmp_path / "text.npy").write_text("none")
    with pytest.raises(ValueError, match=r"text\.npy is no point cloud that can be read"):
        LOAD(Media(path=tmp_path / "text.npy"))
    np.save(tmp_path / "code.npy", np.array([{"xyz": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"code\.npy is not an array that can be read"):
        LOAD(Media(path=tmp_path / "code.npy"))
    np.save(tmp_path / "cut.npy", np.zeros((100, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cut\.npy is not an array that can be read"):
        LOAD(Media(path=tmp_path / "cut.npy"))
    np.savez(tmp_path / "many.npz", a=np.zeros(3))
    (tmp_path / "many.npz").rename(tmp_path / "many.npy")
    with pytest.raises(ValueError, match=r"many\.npy: expected points \(P, 3\)"):
        LOAD(Media(path=tmp_path / "many.npy"))
    ply(tmp_path / "flat.ply", [(1, 2, 3)])
    (tmp_path / "flat.ply").write_text((tmp_path / "flat.ply").read_text().replace("float z", "float depth"))
    with pytest.raises(ValueError, match=r"flat\.ply: its vertices lack z; found x, y, depth"):
        LOAD(Media(path=tmp_path / "flat.ply"))
