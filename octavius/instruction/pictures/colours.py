"""The colours of a decoded picture as a browser shows them: RGB of 8 bits, sRGB, on white.

What is transparent shows white, so no colour appears that nobody sees. ICC profiles and the gamma of PNG files are
applied; a profile that cannot be used is passed over, as browsers do.
"""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

WHITE = (255, 255, 255)

SAME = 2
"""By how much, of 255, a profile may move colours and still count as sRGB's own."""

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF: bits of a number, what 0 means, and whether numbers are signed."""


def as_seen(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode as RGB.

    Raises:
        ValueError: it holds numbers that no viewer shows alike.
    """
    colours, alpha = _parts(image)
    colours = _managed(colours, image.info)
    if alpha is None or alpha.getextrema() == (255, 255):
        return colours
    shown = Image.new("RGB", colours.size, WHITE)
    shown.paste(colours, mask=alpha)
    return shown


def _parts(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, as L, RGB or CMYK, and how opaque each pixel is, as L; None where all are."""
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
        # PNG tells it in the file's own bits, of which Pillow knows for one bit alone.
        hidden = transparent * {2: 85, 4: 17}.get(image.info.get("bits", 8), 1)
        return grey, grey.point([0 if value == hidden else 255 for value in range(256)])
    if mode == "RGB" and isinstance(transparent, tuple):
        if max(transparent) > 255:  # of 16 bits, of which the first 8 are left of the pixels
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        full = image.convert("RGBA")
        return image, full.getchannel("A")
    return image if mode in ("RGB", "CMYK") else image.convert("RGB"), None


def _has_alpha(image: Image.Image) -> bool:
    return image.palette is not None and image.palette.mode == "RGBA"


def _grey(image: Image.Image) -> Image.Image:
    """Numbers of more than 8 bits, or fractions in 0..1, as grey of 8 bits, which Pillow would clip."""
    tags: Any = getattr(image, "tag_v2", {})
    numbers = np.array(image)
    if image.mode == "F":
        if not (numbers.min() >= 0 and numbers.max() <= 1):  # also where one is NaN
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
    if _first(tags.get(PHOTOMETRIC), 1) == 0:  # 0 is white, which Pillow heeds in 8 bits alone
        grey = 255 - grey
    return Image.fromarray(grey)


def _first(value: Any, default: int) -> int:
    """The first of the values of a tag."""
    if isinstance(value, Sequence) and value:
        value = value[0]
    return value if isinstance(value, int) else default


def _managed(image: Image.Image, info: dict[str | tuple[int, int], Any]) -> Image.Image:
    """L, RGB or CMYK as RGB in sRGB."""
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
    """What brings colours of a profile to sRGB; None where they are so already, or the profile is none for them."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode == "CMYK":
        return transform
    steps = range(0, 256, 15)
    if mode == "L":
        before = Image.frombytes("L", (len(steps), 1), bytes(steps))
    else:
        colours = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
        before = Image.frombytes("RGB", (len(steps) ** 3, 1), colours)
    moved = np.asarray(transform.apply(before), np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return None if np.abs(moved).max() <= SAME else transform


def _curve(gamma: float) -> list[int]:
    """What each number of a channel with this gamma is in sRGB."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [round(float(value) * 255) for value in encoded]
