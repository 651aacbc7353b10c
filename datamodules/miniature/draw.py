"""Draws scenes and faces as images (PIL, 112 x 112, RGB), deterministically."""

import math

import numpy as np
from PIL import Image, ImageDraw

from datamodules.miniature.world import SIZE, Face, Scene

ZOOM = 3
"""Supersampling factor, for smooth edges."""

VERSION = 1
"""Incremented when the same scene or face is drawn with other pixels."""

INKS = {
    "red": (215, 40, 40),
    "orange": (245, 135, 25),
    "yellow": (240, 215, 40),
    "green": (45, 155, 60),
    "cyan": (60, 205, 215),
    "blue": (45, 75, 205),
    "purple": (130, 55, 165),
    "pink": (245, 130, 185),
}
HAIR_INKS = {"black": (30, 26, 28), "blond": (235, 205, 105), "brown": (115, 68, 35), "gray": (160, 160, 165)}
SKIN_INKS = {
    "light": (250, 220, 195),
    "tan": (225, 180, 140),
    "olive": (190, 150, 105),
    "dark": (125, 85, 60),
}

Colour = tuple[int, int, int]
Pixels = tuple[int, int, int, int]


def draw_scene(scene: Scene) -> Image.Image:
    """Draws a scene (1 to 4 objects) in its style on its background."""
    rng = np.random.default_rng(scene.detail_seed)
    canvas = _background(scene.background, rng)
    for thing in scene.things:
        ink = _jitter(INKS[thing.colour], rng, 14)
        x1, y1, x2, y2 = (edge * ZOOM for edge in thing.pixels)
        _paint(canvas, _mask(thing.shape, (x2 - x1, y2 - y1)), (x1, y1), ink, scene.style, rng)
    return canvas.reduce(ZOOM)


def draw_face(face: Face) -> Image.Image:
    """Draws a face: hair, head, fringe, eyes, mouth, and glasses if it has them."""
    rng = np.random.default_rng(face.detail_seed)
    canvas = _background(face.background, rng)
    x1, y1, x2, y2 = (edge * ZOOM for edge in face.pixels)
    width, height = x2 - x1, y2 - y1
    hair, skin = _jitter(HAIR_INKS[face.hair], rng, 8), _jitter(SKIN_INKS[face.skin], rng, 8)
    back = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(back)
    pen.ellipse((0, 0, width - 1, int(height * 0.75)), fill=255)
    if face.long_hair:
        pen.rectangle((0, int(height * 0.35), width - 1, int(height * 0.95)), fill=255)
    _paint(canvas, back, (x1, y1), hair, face.style, rng)
    head = Image.new("L", (width, height), 0)
    ImageDraw.Draw(head).ellipse((width * 0.12, height * 0.14, width * 0.88, height - 1), fill=255)
    _paint(canvas, head, (x1, y1), skin, face.style, rng)
    fringe = Image.new("L", (width, height), 0)
    ImageDraw.Draw(fringe).pieslice(
        (width * 0.1, height * 0.06, width * 0.9, height * 0.62), 180, 360, fill=255
    )
    _paint(canvas, fringe, (x1, y1), hair, face.style, rng)
    _features(ImageDraw.Draw(canvas), face, (x1, y1), (width, height))
    return canvas.reduce(ZOOM)


def _features(pen: ImageDraw.ImageDraw, face: Face, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Eyes, glasses and mouth, at fractions of the face's box."""

    def at(x: float, y: float) -> tuple[float, float]:
        return corner[0] + x * size[0], corner[1] + y * size[1]

    dark, line = (35, 30, 35), max(3, size[0] // 30)
    for x in (0.34, 0.66):
        pen.ellipse((*at(x - 0.05, 0.44), *at(x + 0.05, 0.53)), fill=dark)
        if face.glasses:
            pen.ellipse((*at(x - 0.12, 0.39), *at(x + 0.12, 0.58)), outline=dark, width=line)
    if face.glasses:
        pen.line((*at(0.46, 0.48), *at(0.54, 0.48)), fill=dark, width=line)
    red = (170, 40, 50)
    if face.smile:
        pen.chord((*at(0.30, 0.60), *at(0.70, 0.88)), 10, 170, fill=(250, 250, 250), outline=red, width=line)
    else:
        pen.line((*at(0.36, 0.78), *at(0.64, 0.78)), fill=red, width=line + 2)


def _background(kind: str, rng: np.random.Generator) -> Image.Image:
    """A light canvas, computed at the final size and enlarged, so that no detail is finer than a pixel."""
    tone = np.array(rng.integers(185, 246)) + rng.integers(-8, 9, 3)
    if kind == "gradient":
        other = tone - rng.integers(25, 60)
        ramp = np.linspace(0, 1, SIZE)[:, None, None]
        row = np.clip(tone * (1 - ramp) + other * ramp, 0, 255).astype(np.uint8)
        pixels = np.broadcast_to(row, (SIZE, SIZE, 3))
        if rng.integers(2):
            pixels = pixels.transpose(1, 0, 2)
    elif kind == "grain":
        noise = rng.normal(0, 16, (SIZE, SIZE, 1)).astype(np.float32)
        pixels = np.clip(tone.astype(np.float32) + noise, 0, 255).astype(np.uint8)
    elif kind == "tiles":
        axis = np.arange(SIZE) // int(rng.integers(14, 26))
        pixels = _two_tones((axis[:, None] + axis) % 2 > 0, tone, int(rng.integers(10, 22)))
    elif kind == "dots":
        step = int(rng.integers(12, 20))
        axis = np.arange(SIZE) % step - step // 2
        pixels = _two_tones(axis[:, None] ** 2 + axis**2 < (step / 5) ** 2, tone, int(rng.integers(20, 36)))
    else:
        assert kind == "plain", kind
        return Image.new("RGB", (SIZE * ZOOM, SIZE * ZOOM), _colour(tone))
    canvas = Image.fromarray(np.ascontiguousarray(pixels), "RGB")
    return canvas.resize((SIZE * ZOOM, SIZE * ZOOM), Image.Resampling.NEAREST)


def _two_tones(where: np.ndarray, tone: np.ndarray, darker: int) -> np.ndarray:
    return np.array([_colour(tone), _colour(tone - darker)], np.uint8)[where.astype(np.intp)]


def _colour(tone: np.ndarray) -> Colour:
    r, g, b = (min(max(int(value), 0), 255) for value in tone)
    return r, g, b


def _paint(
    canvas: Image.Image,
    mask: Image.Image,
    corner: tuple[int, int],
    ink: Colour,
    style: str,
    rng: np.random.Generator,
) -> None:
    """Pastes a coloured silhouette in one of the four styles."""
    size = mask.size
    if style == "shaded":
        ramp = np.clip(np.linspace(1.22, 0.68, size[1])[:, None, None] * np.array(ink), 0, 255)
        fill = Image.fromarray(ramp.astype(np.uint8), "RGB").resize(size, Image.Resampling.NEAREST)
    elif style == "crayon":
        fill = Image.new("RGB", size, _mix(ink, (255, 255, 255), 0.45))
        pen, step = ImageDraw.Draw(fill), int(rng.integers(4, 7)) * ZOOM
        slant = int(rng.integers(-size[1], size[1]))
        for x in range(-2 * size[1], size[0] + 2 * size[1], step):
            pen.line(
                (x, 0, x + slant, size[1]), fill=_jitter(ink, rng, 12), width=int(rng.integers(2, 4)) * ZOOM
            )
    else:
        fill = Image.new("RGB", size, ink)
    canvas.paste(fill, corner, mask)
    if style in ("outlined", "crayon"):
        edge = _edge(mask, (2 if style == "outlined" else 1) * ZOOM)
        dark = (40, 40, 45) if style == "outlined" else _mix(ink, (0, 0, 0), 0.35)
        canvas.paste(Image.new("RGB", size, dark), corner, edge)


def _edge(mask: Image.Image, width: int) -> Image.Image:
    """The mask of the inner rim of a silhouette, `width` pixels wide."""
    inside = np.pad(np.asarray(mask) > 127, width)
    core = inside.copy()
    for axis in (0, 1):
        for step in (-width, width):
            core &= np.roll(inside, step, axis)
    rim = (inside & ~core)[width:-width, width:-width]
    return Image.fromarray((rim * 255).astype(np.uint8), "L")


def _mask(shape: str, size: tuple[int, int]) -> Image.Image:
    """The silhouette of a shape, which touches all four sides of its box."""
    mask = Image.new("L", size, 0)
    pen, (width, height) = ImageDraw.Draw(mask), size
    full = (0, 0, width - 1, height - 1)
    if shape in ("ball", "ring"):
        pen.ellipse(full, fill=255)
        if shape == "ring":
            pen.ellipse((width * 0.27, height * 0.27, width * 0.73, height * 0.73), fill=0)
    elif shape == "box":
        pen.rectangle(full, fill=255)
    else:
        points = _fit(_outline(shape), size)
        pen.polygon(points, fill=255)
        if shape == "house":
            pen.rectangle((width * 0.38, height * 0.6, width * 0.62, height), fill=0)
    return mask


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corner points of a silhouette, in any scale; y points down."""
    turn = 2 * math.pi
    if shape == "cone":
        return [(0.5, 0), (1, 1), (0, 1)]
    if shape == "cross":
        a, b = 0.33, 0.67
        return [
            (a, 0),
            (b, 0),
            (b, a),
            (1, a),
            (1, b),
            (b, b),
            (b, 1),
            (a, 1),
            (a, b),
            (0, b),
            (0, a),
            (a, a),
        ]
    if shape == "house":
        return [(0.5, 0), (1, 0.45), (0.86, 0.45), (0.86, 1), (0.14, 1), (0.14, 0.45), (0, 0.45)]
    if shape == "tree":
        return [
            (0.5, 0),
            (0.85, 0.42),
            (0.68, 0.42),
            (1, 0.8),
            (0.6, 0.8),
            (0.6, 1),
            (0.4, 1),
            (0.4, 0.8),
            (0, 0.8),
            (0.32, 0.42),
            (0.15, 0.42),
        ]
    if shape == "star":
        radii = [1.0, 0.42] * 5
        return [(r * math.sin(turn * k / 10), -r * math.cos(turn * k / 10)) for k, r in enumerate(radii)]
    if shape == "heart":
        angles = [turn * k / 60 for k in range(60)]
        return [
            (
                16 * math.sin(a) ** 3,
                -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)),
            )
            for a in angles
        ]
    assert shape == "moon", shape
    outer = [
        (-math.cos(math.pi * k / 30 - math.pi / 2), math.sin(math.pi * k / 30 - math.pi / 2))
        for k in range(31)
    ]
    inner = [
        (-0.42 * math.cos(math.pi * k / 30 - math.pi / 2), math.sin(math.pi * k / 30 - math.pi / 2))
        for k in range(31)
    ]
    return outer + inner[::-1]


def _fit(points: list[tuple[float, float]], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Stretches points to touch all four sides of a box of `size` pixels."""
    array = np.array(points)
    low, high = array.min(0), array.max(0)
    scaled = (array - low) / (high - low) * (np.array(size) - 1)
    return [(float(x), float(y)) for x, y in scaled]


def _jitter(ink: Colour, rng: np.random.Generator, spread: int) -> Colour:
    return _colour(np.array(ink) + rng.integers(-spread, spread + 1, 3))


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    r, g, b = (round(a * (1 - share) + c * share) for a, c in zip(first, second, strict=True))
    return r, g, b
