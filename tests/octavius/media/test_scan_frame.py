"""The alignment of a scan is read from the file beside its mesh; `test_scans.py` breaks such files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.media.clouds import posed
from octavius.media.scan_frame import axis_alignment, info_beside


@given(angle=st.floats(-4, 4), shift=st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_what_was_written_is_read(
    angle: float, shift: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A point on the x axis is turned, then shifted, as the file says."""
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [[cos, -sin, 0, shift[0]], [sin, cos, 0, shift[1]], [0, 0, 1, shift[2]], [0, 0, 0, 1]]
    file = tmp_path_factory.mktemp("scan") / "scene0000_00.txt"
    words = " ".join(f"{number:.6f}" for row in rows for number in row)
    file.write_text(f"numDepthFrames = 1\naxisAlignment = {words} \nsceneType = Office\n")
    pose = axis_alignment(file)
    assert pose is not None
    expected = [cos + shift[0], sin + shift[1], shift[2]]
    assert posed(np.array([[1.0, 0.0, 0.0]]), pose)[0] == pytest.approx(expected, abs=1e-5)


def test_a_file_may_name_none(tmp_path: Path) -> None:
    file = tmp_path / "scene0707_00.txt"
    file.write_text("sceneType = Office\n")
    assert axis_alignment(file) is None


def test_the_file_beside_a_mesh(tmp_path: Path) -> None:
    mesh, info = tmp_path / "scene0000_00_vh_clean_2.ply", tmp_path / "scene0000_00.txt"
    assert info_beside(mesh) is None
    info.touch()
    assert info_beside(mesh) == info
    assert info_beside(tmp_path / "scene0000_00.ply") is None, "no mesh of ScanNet"
    assert info_beside(tmp_path / "scene0001_00_vh_clean_2.ply") is None
