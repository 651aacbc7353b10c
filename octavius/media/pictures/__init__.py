"""Opens image files in one way everywhere, as a browser would show them, and within limits.

EXIF orientation is applied, an animation yields its first frame, colours are converted to sRGB, transparent
parts become white, and pixels that a complete stream does not hold keep the decoder's colour. A file that is cut
short is refused. Images with annotated boxes are the exception: COCO's and VOC's boxes refer to the pixels
as stored, so orientation is not applied there (see `Media.stored`).

Limits are checked on headers, before anything is decoded.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

from PIL import GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from octavius.files import open_file
from octavius.instruction.sample import Media
from octavius.media.kinds import kind_of
from octavius.media.pictures.colours import WHITE, as_seen
from octavius.media.pictures.headers import ORIENTATION, check_tiff, orientation, split_jpeg

VERSION = 1
"""Incremented when the same file is decoded to other pixels; cached features of other versions are not used."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Accepted formats, by Pillow's names. Others are rare in data sets, and some readers start programs (EPS)."""

MOST_PIXELS, LONGEST_SIDE = 1 << 26, (1 << 16) - 1
"""Limits on the size: 67 million pixels take 270 MB, and resizing needs memory proportional to the longer side."""

MOST_BYTES = 1 << 30
"""Limit on the file size."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition for each EXIF orientation."""

UNDONE = {6: 8, 8: 6}
"""Orientation whose transposition inverts that of another; all others are their own inverse."""

TILE_WIDTH, TILE_LENGTH = 322, 323
"""TIFF tags of the size of a tile, which is decoded as a whole and may be larger than the image."""


def open_picture(media: Media) -> Image.Image:
    """Opens an image file as seen, in RGB.

    Raises:
        ValueError: the file does not exist, has another format, exceeds the limits, or cannot be decoded.
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
    """Refuses an image that would take too much memory.

    Raises:
        ValueError: it has too many pixels, or a side is too long.
    """
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise ValueError(
            f"it says {width} x {height} pixels, expected {MOST_PIXELS:,} pixels and {LONGEST_SIDE:,} a side "
            "at most; scale it down"
        )


class _Loaded(NamedTuple):
    """A decoded image.

    Attributes:
        image: the image.
        exif: its EXIF orientation, 1 to 8.
        applied: whether the decoder has applied the orientation already.
        covered: box of the pixels that a GIF's first frame covers; the rest is empty.
    """

    image: Image.Image
    exif: int
    applied: bool
    covered: tuple[int, int, int, int]


def _decode(data: bytes, media: Media) -> Image.Image:
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes; scale it down")
    image, exif, applied, covered = _load(data)
    shown = as_seen(image)
    del image  # frees memory before the transposed copy
    if covered != (0, 0, *shown.size):
        canvas = Image.new("RGB", shown.size, WHITE)
        canvas.paste(shown.crop(covered), covered[:2])
        shown = canvas
    return _turned(shown, exif, applied, media)


def _load(data: bytes) -> _Loaded:
    exif_data = b""
    if data[:2] == b"\xff\xd8":
        data, exif_data = split_jpeg(data)
    if data[:2] in (b"II", b"MM"):
        check_tiff(data)
    file = Image.open(BytesIO(data), formats=FORMATS)
    check_size(*file.size)
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        check_size(int(file.tag_v2.get(TILE_WIDTH, 1)), int(file.tag_v2.get(TILE_LENGTH, 1)))
        exif = int(file.tag_v2.get(ORIENTATION, 1))  # `load` applies the orientation and drops the tag
        file.load()
        return _Loaded(file, exif, True, (0, 0, *file.size))
    if isinstance(file, PngImagePlugin.PngImageFile):
        # `as_seen` needs the bit depth of the file, which Pillow does not expose.
        file.info["bits"] = data[24]
        if file.info.get("default_image"):  # the default image is for viewers without animation
            file.seek(1)
    covered = (0, 0, *file.size)
    if isinstance(file, GifImagePlugin.GifImageFile) and file.tile:
        covered = file.tile[0].extents or covered
    file.load()
    exif = orientation(exif_data or file.info.get("exif", b""))
    # WebP's decoder, which is freed with the file, holds two more copies of the image.
    return _Loaded(file.copy() if file.format == "WEBP" else file, exif, False, covered)


def _turned(shown: Image.Image, exif: int, applied: bool, media: Media) -> Image.Image:
    """Applies the EXIF orientation, or undoes it if it is applied already, depending on `media`."""
    # Orientations from 5 on swap width and height.
    width, height = shown.size if not applied or exif < 5 else shown.size[::-1]  # as stored
    turned = (height, width) if exif >= 5 else (width, height)
    # Some annotation tools show the oriented image: then the annotated size is that of the oriented one.
    stored = media.size is None or _same_shape(media.size, (width, height))
    if not stored and not _same_shape(media.size or turned, turned):
        annotated = " x ".join(map(str, media.size or ()))
        raise ValueError(
            f"it has {width} x {height} pixels, but its boxes are annotated for {annotated}: is it another image?"
        )
    wanted = not media.stored or not stored
    if exif not in TURNS or wanted == applied:
        return shown
    return shown.transpose(TURNS[exif if wanted else UNDONE.get(exif, exif)])


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio to within a pixel, as an image and its scaled copy have."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides Pillow's warnings about metadata and sizes, which are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
