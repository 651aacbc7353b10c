"""The type of a file by its first bytes, then by its name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octavius.media.kinds import LONGEST, kind_of


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("jpeg", "a JPEG picture"),
        ("png", "a PNG picture"),
        ("gif", "a GIF picture"),
        ("bmp", "a BMP picture"),
        ("tiff", "a TIFF picture"),
        ("webp", "a WebP picture"),
        ("avif", "an AVIF picture"),
    ],
)
def test_pictures_are_known_whatever_their_name(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / "picture.txt"
    Image.new("RGB", (8, 8)).save(path, kind)
    assert kind_of(path, path.read_bytes()[:LONGEST]) == name


def test_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert kind_of(Path("a"), (tmp_path / "a.npy").read_bytes()[:LONGEST]) == "a numpy array (.npy)"
    assert kind_of(Path("scan.ply"), b"") == "an empty file"
    assert kind_of(Path("page"), b"\n <!DOCTYPE html>") == "a web page"  # text in any case, after blanks
    assert kind_of(Path("x.wav"), b"RIFF\0\0\0\0WAVE") == "a sound or a video"
    assert kind_of(Path("x"), b"\0\0\0\x18ftypisom") == "a video"
    assert kind_of(Path("scan.XYZ"), b"1 2 3") == "a list of points in text"
    assert kind_of(Path("unknown"), b"1 2 3") == "something else"
