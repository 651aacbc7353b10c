"""Converts a decoded image to what a browser shows: 8-bit RGB in sRGB on a white background.

ICC profiles and the gamma of PNG files are applied; as in browsers, an invalid profile is ignored.
"""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

WHITE = (255, 255, 255)

SAME = 2
"""Largest change, of 255, by which a profile may move colours and still be treated as sRGB."""

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""TIFF tags: bits per sample, photometric interpretation (whether 0 is white), and sample format (signedness)."""


def as_seen(image: Image.Image) -> Image.Image:
    """Converts a loaded image of any mode to RGB.

    Raises:
        ValueError: viewers do not agree on how to show its values.
    """
    colours, alpha = _parts(image)
    colours = _managed(colours, image.info)
    if alpha is None or alpha.getextrema() == (255, 255):
        return colours
    shown = Image.new("RGB", colours.size, WHITE)
    shown.paste(colours, mask=alpha)
    return shown


def _parts(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours (mode L, RGB or CMYK) and opacity (mode L); None if all pixels are opaque."""
    mode, transparent = image.mode, image.info.get("transparency")
    if mode == "La":
        image, mode = image.convert("LA"), "LA"
    if mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if mode in ("RGBA", "RGBa", "PA") or (mode == "P" and (transparent is not None or _has_alpha(image))):
        full = image if mode == "RGBA" else image.convert("RGBA")
        return full.convert("RGB"), full.getchannel("A")
    if mode[0] in "IF":
        alpha = None
        if isinstance(transparent, int):
            alpha = Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))
        return _grey(image), alpha
    if mode in ("1", "L"):
        grey = image.convert("L")
        if not isinstance(transparent, int):
            return grey, None
        # PNG's transparent value has the file's bit depth, which Pillow scales for 1 bit only.
        hidden = transparent * {2: 85, 4: 17}.get(image.info.get("bits", 8), 1)
        return grey, grey.point([0 if value == hidden else 255 for value in range(256)])
    if mode == "RGB" and isinstance(transparent, tuple):
        if max(transparent) > 255:  # 16-bit: Pillow keeps the upper 8 bits of the pixels
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        full = image.convert("RGBA")
        return image, full.getchannel("A")
    return image if mode in ("RGB", "CMYK") else image.convert("RGB"), None


def _has_alpha(image: Image.Image) -> bool:
    return image.palette is not None and image.palette.mode == "RGBA"


def _grey(image: Image.Image) -> Image.Image:
    """Integers of more than 8 bits, or floats in 0..1, as 8-bit grey; Pillow would clip them."""
    tags: Any = getattr(image, "tag_v2", {})
    numbers = np.array(image)
    if image.mode == "F":
        if not (numbers.min() >= 0 and numbers.max() <= 1):  # also true for NaN
            raise ValueError(
                f"its fractions go from {numbers.min():g} to {numbers.max():g}, expected 0 (black) to 1 (white); "
                "save it with 8 or 16 bits"
            )
        numbers *= 255
        numbers += 0.5
        grey = numbers.astype(np.uint8)
    else:
        if image.mode == "I" and (tags or numbers.min() < 0 or numbers.max() > 65535):
            raise ValueError(
                "it holds signed numbers, or some of 32 bits, which no two viewers show alike; save it with 8 or 16"
            )
        grey = (numbers >> (_first(tags.get(BITS), 16) - 8 if image.mode != "I" else 8)).astype(np.uint8)
    if _first(tags.get(PHOTOMETRIC), 1) == 0:  # 0 is white, which Pillow handles for 8 bits only
        grey = 255 - grey
    return Image.fromarray(grey)


def _first(value: Any, default: int) -> int:
    """The first value of a tag."""
    if isinstance(value, Sequence) and value:
        value = value[0]
    return value if isinstance(value, int) else default


def _managed(image: Image.Image, info: dict[str | tuple[int, int], Any]) -> Image.Image:
    """Converts L, RGB or CMYK to RGB in sRGB."""
    profile, gamma = info.get("icc_profile"), info.get("gamma")
    if isinstance(profile, bytes) and profile:
        transform = _transform(profile, image.mode)
        if transform is not None:
            return transform.apply(image)
    elif gamma and "srgb" not in info and image.mode != "CMYK" and abs(gamma - 1 / 2.2) > 0.01:
        image = image.point(_curve(gamma) * len(image.getbands()))
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Transform from a profile to sRGB; None if the profile is sRGB already or does not apply."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode == "CMYK":
        return transform
    # A profile that hardly changes a coarse grid of colours is sRGB under another name.
    steps = range(0, 256, 15)
    if mode == "L":
        before = Image.frombytes("L", (len(steps), 1), bytes(steps))
    else:
        colours = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
        before = Image.frombytes("RGB", (len(steps) ** 3, 1), colours)
    moved = np.asarray(transform.apply(before), np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return None if np.abs(moved).max() <= SAME else transform


def _curve(gamma: float) -> list[int]:
    """Look-up table from channel values with this gamma to sRGB."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [round(float(value) * 255) for value in encoded]
