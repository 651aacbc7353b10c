"""The content of the miniature's images: scenes and faces, from which pixels and texts are generated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from octavius.boxes import Box

T = TypeVar("T")

SIZE = 112
"""Side of all images in pixels."""

SHAPES = ("ball", "box", "cone", "cross", "heart", "house", "moon", "ring", "star", "tree")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
HAIR = ("black", "blond", "brown", "gray")
SKINS = ("light", "tan", "olive", "dark")

HELD_OUT_PAIRS = frozenset(
    zip(COLOURS, ("cross", "moon", "house", "heart", "star", "cone", "tree", "ball"), strict=True)
)
"""Pairs (colour, shape) that never occur in training: one per colour, so that no colour determines the shape."""
HELD_OUT_FACES = frozenset(zip(HAIR, ("olive", "dark", "light", "tan"), strict=True))
"""Pairs (hair, skin) that never occur in training."""

STYLES = ("flat", "outlined", "shaded")
UNSEEN_STYLE = "crayon"
BACKGROUNDS = ("plain", "gradient", "grain", "tiles")
UNSEEN_BACKGROUND = "dots"

Shift: TypeAlias = Literal["none", "pairs", "style"]
"""How items differ from those of training: not at all, by held-out pairs, or by an unseen drawing style."""


@dataclass(frozen=True)
class Thing:
    """An object of a scene.

    Attributes:
        shape: one of `SHAPES`; may be empty in a scene that is not drawn, if the question does not need it.
        colour: one of `COLOURS`; may be empty in the same way.
        pixels: its tight box (x1, y1, x2, y2) in pixels.
    """

    shape: str
    colour: str
    pixels: tuple[int, int, int, int]

    @property
    def box(self) -> Box:
        """The box as fractions of the image."""
        x1, y1, x2, y2 = (edge / SIZE for edge in self.pixels)
        return x1, y1, x2, y2

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box as fractions of the image."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True)
class Scene:
    """One to four objects on a background.

    Attributes:
        things: the objects, sorted by their left edges.
        style: drawing style, one of `STYLES` or `UNSEEN_STYLE`.
        background: one of `BACKGROUNDS` or `UNSEEN_BACKGROUND`.
        detail_seed: seed of what no text mentions, such as tones and textures.
    """

    things: tuple[Thing, ...]
    style: str
    background: str
    detail_seed: int


@dataclass(frozen=True)
class Face:
    """A cartoon face; `pixels` is the box of head and hair in pixels, the other attributes are those of `Scene`."""

    hair: str
    skin: str
    smile: bool
    glasses: bool
    long_hair: bool
    pixels: tuple[int, int, int, int]
    style: str
    background: str
    detail_seed: int

    @property
    def box(self) -> Box:
        """The box of head and hair as fractions of the image."""
        x1, y1, x2, y2 = (edge / SIZE for edge in self.pixels)
        return x1, y1, x2, y2


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """A random generator seeded by a seed, the name of a stream (such as `train/scene`) and an index in it."""
    return np.random.default_rng([seed, index, *stream.encode()])


def pick(rng: np.random.Generator, pool: Sequence[T]) -> T:
    """A random element; unlike `Generator.choice` it keeps the type, also of strings and tuples."""
    return pool[int(rng.integers(len(pool)))]


def make_scene(rng: np.random.Generator, shift: Shift = "none", count: int | None = None) -> Scene:
    """Draws a scene of `count` objects (one to four by default) with distinct pairs of colour and shape."""
    wanted = count if count is not None else int(rng.integers(1, 5))
    while True:
        boxes = _place(rng, wanted, 28, 46)
        if boxes is not None:
            break
    pairs = _pairs(rng, wanted, shift)
    things = [Thing(shape, colour, box) for (colour, shape), box in zip(pairs, boxes, strict=True)]
    things.sort(key=lambda thing: (thing.pixels[0], thing.pixels[1]))
    style, background = _look(rng, shift)
    return Scene(tuple(things), style, background, int(rng.integers(2**31)))


def make_single(rng: np.random.Generator, shift: Shift = "none", shape: str | None = None) -> Scene:
    """Draws a scene with one large object, optionally of a given shape.

    Raises:
        ValueError: the shape is unknown, or has no held-out pair under the shift `pairs`.
    """
    if shape is not None and shape not in SHAPES:
        raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    if shape is not None and shift == "pairs" and all(held != shape for _, held in HELD_OUT_PAIRS):
        raise ValueError(
            f"no held-out pair has the shape {shape!r}; it cannot be drawn under the shift 'pairs'"
        )
    boxes = None
    while boxes is None:
        boxes = _place(rng, 1, 36, 76)
    pairs = _pairs(rng, 1, shift)
    while shape is not None and pairs[0][1] != shape:
        pairs = _pairs(rng, 1, shift)
    style, background = _look(rng, shift)
    return Scene((Thing(pairs[0][1], pairs[0][0], boxes[0]),), style, background, int(rng.integers(2**31)))


def make_face(rng: np.random.Generator, shift: Shift = "none") -> Face:
    """Draws a face; colour and length of the hair, smile and glasses are independent."""
    while True:
        hair, skin = str(rng.choice(HAIR)), str(rng.choice(SKINS))
        if ((hair, skin) in HELD_OUT_FACES) == (shift == "pairs"):
            break
    width = int(rng.integers(58, 84))
    height = round(width * rng.uniform(1.05, 1.25))
    x1 = int(rng.integers(4, SIZE - width - 3))
    y1 = int(rng.integers(2, max(3, SIZE - height - 1)))
    smile, glasses, long_hair = (bool(value) for value in rng.integers(0, 2, 3))
    style, background = _look(rng, shift)
    box = (x1, y1, x1 + width, min(SIZE - 1, y1 + height))
    return Face(hair, skin, smile, glasses, long_hair, box, style, background, int(rng.integers(2**31)))


def _look(rng: np.random.Generator, shift: Shift) -> tuple[str, str]:
    if shift == "style":
        return UNSEEN_STYLE, UNSEEN_BACKGROUND
    return str(rng.choice(STYLES)), str(rng.choice(BACKGROUNDS))


def _pairs(rng: np.random.Generator, count: int, shift: Shift) -> list[tuple[str, str]]:
    """Draws `count` distinct (colour, shape) pairs; all of them held out under the shift `pairs`, otherwise none."""
    if shift == "pairs":
        held_out = sorted(HELD_OUT_PAIRS)
        return [held_out[i] for i in rng.choice(len(held_out), count, replace=False)]
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count:
        pair = str(rng.choice(COLOURS)), str(rng.choice(SHAPES))
        if pair not in HELD_OUT_PAIRS and pair not in chosen:
            chosen.append(pair)
    return chosen


def _place(
    rng: np.random.Generator, count: int, smallest: int, largest: int
) -> list[tuple[int, int, int, int]] | None:
    """Draws `count` boxes that do not touch, with sides in pixels; None if they do not fit within 40 tries."""
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(40):
        if len(boxes) == count:
            return boxes
        width, height = (int(side) for side in rng.integers(smallest, largest + 1, 2))
        x1, y1 = int(rng.integers(2, SIZE - 1 - width)), int(rng.integers(2, SIZE - 1 - height))
        box = (x1, y1, x1 + width, y1 + height)
        if all(_apart(box, other) for other in boxes):
            boxes.append(box)
    return boxes if len(boxes) == count else None


def _apart(first: tuple[int, int, int, int], second: tuple[int, int, int, int], gap: int = 3) -> bool:
    return (
        first[2] + gap <= second[0]
        or second[2] + gap <= first[0]
        or first[3] + gap <= second[1]
        or second[3] + gap <= first[1]
    )
