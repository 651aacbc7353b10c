"""Picture files, opened in one way wherever Octavius shows or reads one.

A picture is what a browser shows of it: turned as its EXIF data ask, the first frame of an animation, its colours in
sRGB, transparent parts white. Pictures with annotated boxes are the exception: COCO's and VOC's boxes are told on the
pixels as they are stored, so the picture is not turned there (see `Media.stored`).

Limits hold before anything is decoded: what a header says takes no memory and no time until it was checked.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

from PIL import GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from octavius.files import open_file
from octavius.instruction.kinds import kind_of
from octavius.instruction.pictures.colours import WHITE, as_seen
from octavius.instruction.pictures.headers import ORIENTATION, check_tiff, orientation, split_jpeg
from octavius.instruction.sample import Media

VERSION = 1
"""Of what is shown of a file; features that were computed by another one are not used."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is taken, by Pillow's names. Others are rare in data sets, and some of their readers start programs (EPS)."""

MOST_PIXELS, LONGEST_SIDE = 1 << 26, (1 << 16) - 1
"""Limits of a picture: 67 million pixels take 270 MB, and resizing takes memory by the longer side."""

MOST_BYTES = 1 << 30
"""Limit of a file."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What an orientation of EXIF asks for."""

UNDONE = {6: 8, 8: 6}
"""The orientation that undoes another one; the others undo themselves."""

TILE_WIDTH, TILE_LENGTH = 322, 323


def open_picture(media: Media) -> Image.Image:
    """The picture of a file as it is seen, in RGB.

    Raises:
        ValueError: no such file, none of the formats that are taken, larger than the limits, or not readable to its
            end.
    """
    path = media.path
    assert path is not None
    try:
        with open_file(path) as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ValueError(f"no image file at {path}; check the data root and the annotation file") from None
    except OSError as error:
        raise ValueError(f"{path} is not an image that can be read ({error.strerror}); replace it") from None
    try:
        with _quiet():
            return _decode(data, media)
    except UnidentifiedImageError:
        found = kind_of(path, data[:64])
        raise ValueError(
            f"{path} is not an image that can be read; replace or remove it (expected {', '.join(FORMATS)}, found "
            f"{found})"
        ) from None
    except (Exception, MemoryError) as error:  # Pillow's decoders raise almost anything on damaged files
        raise ValueError(f"{path} is not an image that can be read ({error}); replace or remove it") from None


def check_size(width: int, height: int) -> None:
    """Refuses a picture that would take too much memory.

    Raises:
        ValueError: it has too many pixels, or too long a side.
    """
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise ValueError(
            f"it says {width} x {height} pixels, expected {MOST_PIXELS:,} pixels and {LONGEST_SIDE:,} a side "
            "at most; scale it down"
        )


class _Loaded(NamedTuple):
    """A decoded picture, the orientation that its metadata ask for, and whether the decoder has turned it."""

    image: Image.Image
    asked: int
    done: bool
    covered: tuple[int, int, int, int]
    """The part of it that has pixels; the rest is empty."""


def _decode(data: bytes, media: Media) -> Image.Image:
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes; scale it down")
    image, asked, done, covered = _load(data)
    shown = as_seen(image)
    del image  # makes room for the turned one
    if covered != (0, 0, *shown.size):
        canvas = Image.new("RGB", shown.size, WHITE)
        canvas.paste(shown.crop(covered), covered[:2])
        shown = canvas
    return _turned(shown, asked, done, media)


def _load(data: bytes) -> _Loaded:
    exif = b""
    if data[:2] == b"\xff\xd8":
        data, exif = split_jpeg(data)
    if data[:2] in (b"II", b"MM"):
        check_tiff(data)
    file = Image.open(BytesIO(data), formats=FORMATS)
    check_size(*file.size)
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        check_size(int(file.tag_v2.get(TILE_WIDTH, 1)), int(file.tag_v2.get(TILE_LENGTH, 1)))
        asked = int(file.tag_v2.get(ORIENTATION, 1))  # Pillow turns it when it loads it, and drops the tag
        file.load()
        return _Loaded(file, asked, True, (0, 0, *file.size))
    if isinstance(file, PngImagePlugin.PngImageFile):
        file.info["bits"] = data[24]
        if file.info.get("default_image"):  # which is for viewers that know no animation
            file.seek(1)
    covered = (0, 0, *file.size)
    if isinstance(file, GifImagePlugin.GifImageFile) and file.tile:
        covered = file.tile[0].extents or covered
    file.load()
    asked = orientation(exif or file.info.get("exif", b""))
    # The decoder of WebP, which goes with its file, holds the picture twice more.
    return _Loaded(file.copy() if file.format == "WEBP" else file, asked, False, covered)


def _turned(shown: Image.Image, asked: int, done: bool, media: Media) -> Image.Image:
    """A picture turned as it is asked for, or left as it is stored; `done` tells that it was turned already."""
    width, height = shown.size if not done or asked < 5 else shown.size[::-1]  # as stored
    turned = (height, width) if asked >= 5 else (width, height)
    # Some annotate what their viewer shows; the size in their annotation tells it.
    wanted = not media.stored or (media.size == turned and media.size != (width, height))
    if asked not in TURNS or wanted == done:
        return shown
    return shown.transpose(TURNS[asked if wanted else UNDONE.get(asked, asked)])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides Pillow's warnings about metadata and about sizes, which are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
