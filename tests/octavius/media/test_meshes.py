"""Points on the surface of meshes, with the colours of materials, textures and vertices."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octavius.media.meshes import FEWEST, GREY, read_mesh

SQUARE = "v 0 0 0\nv 2 0 0\nv 2 2 0\nv 0 2 0\n"
OFF = "OFF\n4 2 0\n0 0 0\n2 0 0\n2 2 0\n0 2 0\n3 0 1 2\n3 0 2 3\n"
STL = """solid a
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 2 0 0
vertex 2 2 0
endloop
endfacet
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 2 2 0
vertex 0 2 0
endloop
endfacet
endsolid a
"""


def read(path: Path, content: str) -> np.ndarray:
    path.write_text(content)
    return read_mesh(path, path.suffix[1:])


@pytest.mark.parametrize(
    ("name", "content"), [("a.obj", f"{SQUARE}f 1 2 3 4\n"), ("a.off", OFF), ("a.stl", STL)]
)
def test_points_are_spread_evenly_over_the_surface(tmp_path: Path, name: str, content: str) -> None:
    found = read(tmp_path / name, content)
    assert found.shape == (FEWEST, 3)
    assert (found[:, 2] == 0).all()
    quarters = np.histogram2d(found[:, 0], found[:, 1], bins=2, range=[(0, 2), (0, 2)])[0]
    np.testing.assert_allclose(quarters / FEWEST, 0.25, atol=0.02)
    np.testing.assert_array_equal(found, read_mesh(tmp_path / name, name[2:]), "drawn with a fixed seed")


def test_larger_faces_get_more_points(tmp_path: Path) -> None:
    small = "v 5 0 0\nv 6 0 0\nv 6 1 0\nv 5 1 0\nusemtl b\nf 5 6 7 8\n"
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n")
    found = read(tmp_path / "a.obj", f"mtllib m.mtl\n{SQUARE}usemtl a\nf 1 2 3 4\n{small}")
    is_small = found[:, 0] >= 5
    assert is_small.mean() == pytest.approx(1 / 5, abs=0.001)
    np.testing.assert_allclose(found[is_small, 3:], [[0, 0, 1]] * is_small.sum())
    np.testing.assert_allclose(found[~is_small, 3:], [[1, 0, 0]] * (~is_small).sum())


def test_textures(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64), (255, 0, 0))
    picture.paste((0, 255, 0), (32, 0, 64, 64))
    picture.save(tmp_path / "skin.png")
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 1 1 1\nmap_Kd skin.png\n")
    content = f"mtllib m.mtl\n{SQUARE}vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3 4/4\n"
    found = read(tmp_path / "a.obj", content)
    left, right = found[found[:, 0] < 0.9, 3:], found[found[:, 0] > 1.1, 3:]
    np.testing.assert_allclose(left, np.broadcast_to((1, 0, 0), left.shape))
    np.testing.assert_allclose(right, np.broadcast_to((0, 1, 0), right.shape))


def test_colours_of_vertices_come_before_materials(tmp_path: Path) -> None:
    vertices = SQUARE.replace(" 0\n", " 0 0 0 1\n")
    found = read(tmp_path / "a.obj", f"mtllib gone.mtl\n{vertices}f 1 2 3 4\n")
    np.testing.assert_allclose(found[:, 3:], [[0, 0, 1]] * FEWEST)


def test_parts_without_colours_are_grey_beside_others(tmp_path: Path) -> None:
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 1 0 0\nnewmtl b\nNs 1\n")
    second = "v 5 0 0\nv 6 0 0\nv 6 1 0\nusemtl b\nf 5 6 7\n"
    found = read(tmp_path / "a.obj", f"mtllib m.mtl\n{SQUARE}usemtl a\nf 1 2 3 4\n{second}")
    np.testing.assert_allclose(found[found[:, 0] >= 5, 3:], GREY)


def test_files_beside_are_read_from_the_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 1 0 0\n")
    with pytest.raises(
        ValueError, match=r"a\.obj cannot be read as a mesh: it needs \.\./m\.mtl, which cannot be"
    ):
        read(folder / "a.obj", f"mtllib ../m.mtl\n{SQUARE}usemtl a\nf 1 2 3 4\n")
    (folder / "m.mtl").write_text("newmtl a\nmap_Kd /dev/zero\n")
    with pytest.raises(ValueError, match="it needs /dev/zero"):
        read(folder / "a.obj", f"mtllib m.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1 4/1\n")
    (folder / "a.obj").rename(folder / "upload")  # a file of a request, which has no suffix
    with pytest.raises(ValueError, match=r"it needs m\.mtl"):
        read_mesh(folder / "upload", "obj")


BROKEN = {
    "faces of no vertex.obj": f"{SQUARE}f 1 2 9\n",
    "no number.obj": f"{SQUARE}v 1 one 2\nf 1 2 3\n",
    "no vertices.obj": "f 1 2 3\n",
    "a line.obj": "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n",
    "not finite.obj": "v 0 0 0\nv 1 nan 0\nv 2 1 0\nf 1 2 3\n",
    "any number promised.off": OFF.replace("4 2 0", "1000000000000 2 0"),
    "faces of no vertex.off": OFF.replace("3 0 2 3", "3 0 2 9"),
    "cut.off": OFF[:30],
    "cut.stl": STL[:60],
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_meshes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a mesh"):
        read(tmp_path / name, BROKEN[name])
