"""Pictures are rotated by their EXIF orientation, reduced to their first frame, and limited in size."""

import os
import struct
import time
import zlib
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from octavius.instruction.sample import Media
from octavius.media.images import ImageLoader
from octavius.media.pictures import LONGEST_SIDE, MOST_PIXELS, open_picture
from tests.octavius.media.pictures.png_files import chunk, png

RED, WHITE = (204, 0, 51), (255, 255, 255)
NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


def seen(path: Path, **facts: Any) -> np.ndarray:
    return np.asarray(open_picture(Media(path=path, **facts)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_pictures_are_turned_as_their_metadata_ask(tmp_path: Path, name: str, orientation: int) -> None:
    options = {"a.jpg": {"quality": 100}, "a.webp": {"lossless": True}}.get(name, {})
    Image.fromarray(NOISE).save(tmp_path / name, exif=exif(orientation), **options)
    with Image.open(tmp_path / name) as image:
        turned = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert turned.shape == ((6, 9, 3) if orientation < 5 else (9, 6, 3))
    np.testing.assert_array_equal(seen(tmp_path / name), turned)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_pictures_with_boxes_stay_as_they_are_stored(tmp_path: Path, name: str, orientation: int) -> None:
    options = {"a.jpg": {"quality": 100}, "a.webp": {"lossless": True}}.get(name, {})
    Image.fromarray(NOISE).save(tmp_path / name, exif=exif(orientation), **options)
    Image.fromarray(NOISE).save(tmp_path / f"plain-{name}", **options)
    stored = seen(tmp_path / f"plain-{name}")
    for size in (None, (9, 6), (90, 60)):
        np.testing.assert_array_equal(seen(tmp_path / name, stored=True, size=size), stored)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_that_were_told_on_the_turned_picture_are_on_it(
    tmp_path: Path, name: str, orientation: int
) -> None:
    Image.fromarray(NOISE).save(tmp_path / name, exif=exif(orientation))
    np.testing.assert_array_equal(seen(tmp_path / name, stored=True, size=(6, 9)), seen(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\xff\xff\xff\xff",
        bytes(100),
        b"\xff" * 100,
    ]
    + [b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + bytes([wrong, 0, 0, 0]) for wrong in (0, 9, 255)],
)
def test_metadata_that_cannot_be_read_are_passed_over(tmp_path: Path, content: bytes) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(plain[:33] + chunk(b"eXIf", content) + plain[33:])
    np.testing.assert_array_equal(seen(tmp_path / "a.png"), NOISE)


def test_only_the_first_metadata_of_a_jpeg_file_count(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", exif=exif(6), comment=b"x" * 5000)
    turned, data = seen(tmp_path / "a.jpg"), (tmp_path / "a.jpg").read_bytes()
    again = BytesIO()
    Image.fromarray(NOISE).save(again, "JPEG", exif=exif(3))
    place = again.getvalue().index(b"Exif") - 4
    second = again.getvalue()[place : place + 2 + struct.unpack_from(">H", again.getvalue(), place + 2)[0]]
    sos = data.index(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:sos] + second + data[sos:])
    np.testing.assert_array_equal(seen(tmp_path / "a.jpg"), turned)


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE])
def test_a_small_picture_within_the_metadata_is_not_taken_for_the_picture(
    tmp_path: Path, marker: int
) -> None:
    small, stream = BytesIO(), BytesIO()
    Image.new("RGB", (8, 8), RED).save(small, "JPEG")
    Image.fromarray(NOISE).save(stream, "JPEG")
    segment = bytes([255, marker]) + struct.pack(">H", 2 + len(small.getvalue())) + small.getvalue()
    (tmp_path / "a.jpg").write_bytes(stream.getvalue()[:2] + segment + stream.getvalue()[2:])
    with Image.open(stream) as image:
        np.testing.assert_array_equal(seen(tmp_path / "a.jpg"), image)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_frame_is_shown(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert (seen(tmp_path / name) == RED).all()


def test_a_stereo_picture_is_its_first(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200)))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second], quality=95)
    np.testing.assert_allclose(seen(tmp_path / "a.mpo")[0, 0], (200, 0, 0), atol=3)


def test_a_picture_for_viewers_without_animation_is_not_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((0, 255, 0), RED, (0, 0, 255))]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True)
    assert (seen(tmp_path / "a.png") == RED).all()


@pytest.mark.parametrize("transparent", [True, False])
def test_what_a_first_frame_leaves_free_is_white(tmp_path: Path, transparent: bool) -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / "a.gif", **({"transparency": 0} if transparent else {}))
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 4, 3)  # the screen
    frame = data.index(b"\x2c")
    data[frame + 1 : frame + 5] = struct.pack("<HH", 1, 1)  # where the frame begins
    (tmp_path / "a.gif").write_bytes(data)
    expected = np.full((3, 4, 3), 255)
    expected[1:3, 1:3] = RED
    np.testing.assert_array_equal(seen(tmp_path / "a.gif"), expected)


def test_the_miniature_looks_as_it_always_did(miniature_root: Path) -> None:
    files = [path for path in miniature_root.rglob("*") if path.suffix in (".jpg", ".png")]
    assert len(files) > 300
    for path in files[::7]:
        with Image.open(path) as image:
            np.testing.assert_array_equal(seen(path), image.convert("RGB"))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (LONGEST_SIDE, 1), (1, LONGEST_SIDE)])
def test_slim_and_tiny_pictures_are_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    pixels = ImageLoader(4, (0, 0, 0), (1, 1, 1))(Media(path=tmp_path / "a.png"))
    np.testing.assert_allclose(pixels.permute(1, 2, 0), np.full((4, 4, 3), RED) / 255, atol=1e-6)


@pytest.mark.parametrize(
    "size", [(170_000_000, 1), (1, 170_000_000), (LONGEST_SIDE + 1, 1), (8193, 8192), (2**31 - 1, 2**31 - 1)]
)
def test_larger_pictures_are_refused_before_they_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png(size, 8, 0, b"\0\0"))
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"(it says \d+ x \d+ pixels, expected 67,108,864|exceeds limit)"):
        seen(tmp_path / "a.png")
    assert time.monotonic() - start < 2
    assert size[0] * size[1] > MOST_PIXELS or max(size) > LONGEST_SIDE


def test_arrays_have_the_same_limits() -> None:
    with pytest.raises(ValueError, match="it says 1 x 70000 pixels"):
        ImageLoader(4, (0, 0, 0), (1, 1, 1))(Media(array=np.zeros((70_000, 1, 3), np.uint8)))


def test_tiles_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    tags = {256: 9, 257: 9, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 9}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4))
    with pytest.raises(ValueError, match="it says 60000 x 60000 pixels"):
        seen(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nested", [False, True])
def test_directories_that_claim_the_same_bytes_again_and_again_are_refused(
    tmp_path: Path, order: str, nested: bool
) -> None:
    entries = [struct.pack(order + "HHII", 40_000 + n, 7, 500_000, 16) for n in range(5000)]
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    main = struct.pack(order + "HHHIII", 1, 34665, 4, 1, 26, 0) if nested else b""
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    (tmp_path / "a.tif").write_bytes(start + main + directory + bytes(500_000))
    began = time.monotonic()
    with pytest.raises(ValueError, match="its directories claim more than the file holds"):
        seen(tmp_path / "a.tif")
    assert time.monotonic() - began < 2


def test_a_jpeg_file_of_many_passes_is_refused(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + last * 200 + data[-2:])
    with pytest.raises(ValueError, match=r"it has 2\d\d scans, expected 100 at most"):
        seen(tmp_path / "a.jpg")


def test_compressed_metadata_beyond_a_limit_are_refused(tmp_path: Path) -> None:
    bomb = b"x\0\0" + zlib.compress(bytes(200_000_000), 9)
    for kind in (b"iCCP", b"zTXt"):
        (tmp_path / "a.png").write_bytes(png((1, 1), 8, 0, b"\0\0", chunk(kind, bomb)))
        with pytest.raises(ValueError, match=r"is not an image that can be read .*too large"):
            seen(tmp_path / "a.png")


KINDS = {
    "a PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "an AVIF picture": b"\0\0\0\x1cftypavif",
    "an SVG drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a web page": b"<!DOCTYPE html><html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1",
    "an empty file": b"",
    "a Photoshop file": b"8BPS\0\1",
    "a zip archive": b"PK\3\4",
    "something else": b"\1\2\3",
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_formats_are_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(KINDS[kind])
    with pytest.raises(ValueError, match=f"expected JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, found {kind}"):
        seen(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "SGI", "JPEG2000", "DDS"])
def test_rare_formats_are_not_decoded(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (16, 16), RED).save(tmp_path / "a.png", kind)
    with pytest.raises(ValueError, match="is not an image that can be read; replace"):
        seen(tmp_path / "a.png")


def test_nothing_waits_for_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    cases = {
        tmp_path / "pipe.png": "Is a pipe",
        tmp_path / "circle.png": "symbolic links",
        tmp_path: "Is a directory",
        Path("/dev/zero"): "Is a device",
        tmp_path / ("x" * 300): "name too long",
        tmp_path / "a\0b.png": "Not a name",
    }
    for path, reason in cases.items():
        with pytest.raises(ValueError, match=f"is not an image that can be read .*{reason}"):
            seen(path)


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((100, 80), True),
        ((200, 160), True),
        ((641, 513), True),
        ((80, 100), False),
        ((200, 80), False),
        ((10**30, 80), False),
    ],
)
def test_boxes_annotated_for_another_image_are_refused(
    tmp_path: Path, size: tuple[int, int], fits: bool
) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    media = Media(path=tmp_path / "a.png", stored=True, size=size)
    with (
        nullcontext()
        if fits
        else pytest.raises(ValueError, match="has 100 x 80 pixels, but its boxes are annotated")
    ):
        assert open_picture(media).size == (100, 80)


def test_boxes_on_a_scaled_copy_of_the_oriented_image_are_on_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png", exif=exif)
    assert open_picture(Media(path=tmp_path / "a.png", stored=True, size=(160, 200))).size == (80, 100)
