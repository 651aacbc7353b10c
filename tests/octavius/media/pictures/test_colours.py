"""Pictures of every mode show the colours that a browser shows: on white, in sRGB."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from octavius.instruction.sample import Media
from octavius.media.pictures import open_picture
from tests.octavius.media.pictures.png_files import ADOBE_RGB, chunk, png, profile

RED, WHITE = (204, 0, 51), (255, 255, 255)
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def shown(path: Path) -> list[tuple[int, ...]]:
    """The first row of what is seen."""
    picture = open_picture(Media(path=path))
    assert picture.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(picture)[0].tolist()]


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> list[tuple[int, ...]]:
    image.save(folder / name, **options)
    return shown(folder / name)


def row(mode: str, *pixels: Any) -> Image.Image:
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def test_transparent_colours_are_hidden_and_half_transparent_ones_mixed_with_white(tmp_path: Path) -> None:
    image = row("RGBA", (*RED, 0), (*RED, 255), (0, 0, 0, 102))
    for name in ("a.png", "a.tif", "a.webp"):
        options = {"lossless": True, "exact": True} if name == "a.webp" else {}
        # 0.4 of black on white: 0.6 x 255
        assert saved(tmp_path, image, name, **options) == [WHITE, RED, (153, 153, 153)]


def test_grey_with_alpha(tmp_path: Path) -> None:
    assert saved(tmp_path, row("LA", (0, 0), (0, 255), (0, 51))) == [WHITE, (0, 0, 0), (204, 204, 204)]


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 refuses such files")
def test_associated_alpha_is_taken_out_of_the_colours(tmp_path: Path) -> None:
    # Half of red is stored as (102, 0, 26) with an alpha of 128; on white it is 0.5 x 204 + 0.5 x 255, ...
    for mode, pixel, expected in (
        ("RGBA", (102, 0, 26, 128), (229, 127, 153)),
        ("LA", (26, 128), (153,) * 3),
    ):
        row(mode, pixel).save(tmp_path / "a.tif")
        data = (tmp_path / "a.tif").read_bytes()
        plain, associated = (struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1))
        assert plain in data
        (tmp_path / "a.tif").write_bytes(data.replace(plain, associated))
        np.testing.assert_allclose(shown(tmp_path / "a.tif"), [expected], atol=2)


def test_palettes_with_transparency(tmp_path: Path) -> None:
    image = row("P", 0, 1, 2)
    image.putpalette([*RED, 0, 0, 0, 0, 255, 0])
    assert saved(tmp_path, image) == [RED, (0, 0, 0), (0, 255, 0)]
    assert saved(tmp_path, image, transparency=b"\0\x66\xff") == [WHITE, (153, 153, 153), (0, 255, 0)]
    assert saved(tmp_path, image, transparency=1) == [RED, WHITE, (0, 255, 0)]
    assert saved(tmp_path, image, "a.gif", transparency=2) == [RED, (0, 0, 0), WHITE]


@pytest.mark.parametrize(
    ("bits", "numbers", "hidden", "expected"),
    [
        (1, 0b10 << 6, 1, [255, 0]),
        (2, 0b01_10 << 4, 1, [255, 170]),
        (4, 0x5A, 10, [85, 255]),
        (16, 0x0102_0103, 0x0102, [255, 1]),
    ],
)
def test_one_grey_may_be_transparent(
    tmp_path: Path, bits: int, numbers: int, hidden: int, expected: list[int]
) -> None:
    content = b"\0" + numbers.to_bytes(4 if bits == 16 else 1, "big")
    trns = chunk(b"tRNS", struct.pack(">H", hidden))
    (tmp_path / "a.png").write_bytes(png((2, 1), bits, 0, content, trns))
    assert shown(tmp_path / "a.png") == [(grey,) * 3 for grey in expected]


def test_one_colour_may_be_transparent(tmp_path: Path) -> None:
    assert saved(tmp_path, row("RGB", RED, (204, 0, 52)), transparency=RED) == [WHITE, (204, 0, 52)]
    content = b"\0" + struct.pack(">6H", 0xCC00, 0, 0x3300, 0xCC00, 0, 0x3400)
    trns = chunk(b"tRNS", struct.pack(">3H", 0xCC00, 0, 0x3300))
    (tmp_path / "a.png").write_bytes(png((2, 1), 16, 2, content, trns))
    assert shown(tmp_path / "a.png") == [WHITE, (204, 0, 52)]


def test_one_bit(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "a.bmp", "a.gif"):
        assert saved(tmp_path, row("1", 255, 0), name) == [WHITE, (0, 0, 0)]


def test_sixteen_bits(tmp_path: Path) -> None:
    numbers = np.array([[0, 0x80FF, 0xFFFF]], np.uint16)
    for name in ("a.png", "a.tif"):
        assert saved(tmp_path, Image.fromarray(numbers), name) == [(0,) * 3, (128,) * 3, WHITE]
    (tmp_path / "a.png").write_bytes(png((1, 1), 16, 2, b"\0" + struct.pack(">3H", 0xCC01, 1, 0x3377)))
    assert shown(tmp_path / "a.png") == [RED]
    (tmp_path / "a.png").write_bytes(png((1, 1), 16, 6, b"\0" + struct.pack(">4H", 0xCC01, 1, 0x3377, 0)))
    assert shown(tmp_path / "a.png") == [WHITE]
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n\x80\x00\xff\xff")
    assert shown(tmp_path / "a.pgm") == [(128,) * 3, WHITE]


def test_sixteen_bits_whose_zero_is_white(tmp_path: Path) -> None:
    numbers = np.array([[0, 0x8000, 0xFFFF]], np.uint16)
    assert saved(tmp_path, Image.fromarray(numbers), "a.tif", tiffinfo={262: 0}) == [
        WHITE,
        (127,) * 3,
        (0,) * 3,
    ]


def test_fractions_go_from_black_to_white(tmp_path: Path) -> None:
    good = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    assert saved(tmp_path, good, "a.tif") == [(0,) * 3, (128,) * 3, WHITE]
    for bad in (-0.1, 1.5, 200, np.nan, np.inf):
        with pytest.raises(
            ValueError, match=r"its fractions go from .* expected 0 .black. to 1 .white.; save it"
        ):
            saved(tmp_path, Image.fromarray(np.array([[0, bad]], np.float32)), "a.tif")


@pytest.mark.parametrize("kind", [np.int32, np.int16])
def test_numbers_that_viewers_show_in_different_ways_are_refused(tmp_path: Path, kind: type) -> None:
    with pytest.raises(ValueError, match="it holds signed numbers, or some of 32 bits"):
        saved(tmp_path, Image.fromarray(np.array([[0, 300]]).astype(kind).astype(np.int32)), "a.tif")


def test_inks(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), RED).convert("CMYK")
    for name in ("a.jpg", "a.tif"):
        pixel = saved(tmp_path, image, name, quality=95)[2]
        np.testing.assert_allclose(pixel, RED, atol=4)


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 refuses such files")
def test_other_spaces(tmp_path: Path) -> None:
    np.testing.assert_allclose(saved(tmp_path, row("RGB", RED).convert("YCbCr"), "a.tif"), [RED], atol=3)
    np.testing.assert_allclose(saved(tmp_path, row("RGB", RED).convert("LAB"), "a.tif"), [RED], atol=9)


def in_srgb(pixel: tuple[int, int, int]) -> np.ndarray:
    """A colour of Adobe RGB with a gamma of 2.2, by the definitions."""
    xyz = (np.array(pixel) / 255) ** 2.2 @ np.array(ADOBE_RGB)
    light = np.clip(xyz @ np.linalg.inv(np.array(SRGB)), 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_profiles_are_applied(tmp_path: Path, name: str) -> None:
    pixel = (200, 100, 50)
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    image = Image.new("RGB", (16, 16), pixel)
    [found, *_] = saved(tmp_path, image, name, icc_profile=profile(), **options)
    np.testing.assert_allclose(found, in_srgb(pixel), atol=3)
    assert np.abs(np.array(found) - pixel).max() > 15


def test_a_profile_below_transparency(tmp_path: Path) -> None:
    found = saved(tmp_path, row("RGBA", (200, 100, 50, 0), (200, 100, 50, 255)), icc_profile=profile())
    assert found[0] == WHITE
    np.testing.assert_allclose(found[1], in_srgb((200, 100, 50)), atol=3)


@pytest.mark.parametrize("content", [b"nonsense", profile()[:200], profile().replace(b"RGB ", b"CMYK")])
def test_profiles_that_cannot_be_used_are_passed_over(tmp_path: Path, content: bytes) -> None:
    assert saved(tmp_path, row("RGB", RED), icc_profile=content) == [RED]


def test_the_usual_profile_changes_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=usual)
    np.testing.assert_array_equal(open_picture(Media(path=tmp_path / "a.png")), noise)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([chunk(b"gAMA", struct.pack(">I", 100_000))], 188),  # 1.055 x (128 / 255)^(1 / 2.4) - 0.055
        ([chunk(b"gAMA", struct.pack(">I", 45_455))], 128),
        ([chunk(b"gAMA", struct.pack(">I", 0))], 128),
        ([chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")], 128),
        (
            [chunk(b"iCCP", b"x\0\0" + zlib.compress(b"none")), chunk(b"gAMA", struct.pack(">I", 100_000))],
            128,
        ),
    ],
)
def test_the_gamma_of_a_png_file(tmp_path: Path, chunks: list[bytes], expected: int) -> None:
    (tmp_path / "a.png").write_bytes(png((1, 1), 8, 0, b"\0\x80", *chunks))
    assert shown(tmp_path / "a.png") == [(expected,) * 3]
