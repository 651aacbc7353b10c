"""Thousands of damaged media files: errors alone, no crash, no hang, at most 2 GB of memory.

The files that take the most memory for their size are made on purpose: those at the limits of a picture.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from octavius.media.pictures import LONGEST_SIDE, MOST_PIXELS
from tests.media_doors import DOORS

pytestmark = pytest.mark.slow

COUNT = 3000
"""Damaged files of each kind."""

ROOT = Path(__file__).resolve().parent.parent

READ = """
import sys
from pathlib import Path
from octavius.media.images import ImageLoader
from octavius.instruction.sample import Media
from tests.media_doors import peak_memory
ImageLoader(224, (0, 0, 0), (1, 1, 1))(Media(path=Path(sys.argv[1])))
print(peak_memory())
"""


def output(*words: str) -> str:
    """The last line that a program of ours prints."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=3000, cwd=ROOT)
    assert done.returncode == 0, f"{done.returncode}: {words}\n{done.stderr[-3000:]}"
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("door", DOORS)
def test_damaged_files_are_told(tmp_path: Path, door: str) -> None:
    found = json.loads(output("-m", "tests.media_doors", door, str(tmp_path), str(COUNT), "0"))
    assert found["memory"] < 2_000_000_000
    assert found["longest"] < 60


def image(mode: str, size: tuple[int, int] = (8192, 8192), **options: Any) -> Callable[[Path], None]:
    """What saves a picture of one colour, which is to be turned."""

    def save(file: Path) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.new(mode, size, 1).save(file, exif=exif, **options)

    return save


LARGE = {
    "alpha.png": image("RGBA"),
    "tall.png": image("RGB", (1024, LONGEST_SIDE)),
    "wide.png": image("RGB", (LONGEST_SIDE, 1024)),
    "alpha.webp": image("RGBA", lossless=True, method=0),
    "progressive.jpg": image("RGB", progressive=True, subsampling=0),
    "inks.tif": image("CMYK", compression="tiff_adobe_deflate"),
    "fractions.tif": image("F", compression="tiff_adobe_deflate"),
    "sixteen.tif": image("I;16", compression="tiff_adobe_deflate"),
    "palette.gif": image("P"),
    "animation.png": image(
        "RGB", save_all=True, default_image=True, append_images=[Image.new("RGB", (8192, 8192))]
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_pictures_take_less_than_two_gigabytes(tmp_path: Path, name: str) -> None:
    LARGE[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size < 1_000_000
    assert MOST_PIXELS == 8192 * 8192
    assert int(output("-c", READ, str(tmp_path / name))) < 2_000_000_000
