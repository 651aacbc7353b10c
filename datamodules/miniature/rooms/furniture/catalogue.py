"""All furniture classes: draws looks (class, style, colours, size), builds them, and defines what is held out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.fixtures import FIXTURES
from datamodules.miniature.rooms.furniture.hung import HUNG
from datamodules.miniature.rooms.furniture.novel import NOVEL
from datamodules.miniature.rooms.furniture.palette import COLOURS, TRIMS
from datamodules.miniature.rooms.furniture.seats import SEATS
from datamodules.miniature.rooms.furniture.solids import Part, extent, moved
from datamodules.miniature.rooms.furniture.storage import STORAGE
from datamodules.miniature.rooms.furniture.style import Order, Style
from datamodules.miniature.rooms.furniture.tables import TABLES

SEEN = {**SEATS, **TABLES, **STORAGE, **FIXTURES, **HUNG}
KINDS = {**SEEN, **NOVEL}
"""All classes by name; only those in `SEEN` occur in training."""

CLASSES = tuple(SEEN)
UNSEEN_CLASSES = tuple(NOVEL)

HELD_OUT_PAIRS = frozenset(
    (colour, name)
    for i, name in enumerate(CLASSES)
    for j, colour in enumerate(COLOURS)
    if (i + 2 * j) % 7 == 0
)
"""Pairs of colour and class that never occur in training; every class and every colour still does."""

HELD_OUT_STYLES = frozenset(
    (tuple(kind.styles)[-1], name) for name, kind in SEEN.items() if len(kind.styles) > 2
)
"""Pairs of style and class that never occur in training."""

SPREAD, VARIETY = (0.88, 1.12), 0.3
"""Factors beyond the usual size range of a style, and random deviation of each side from the overall size.

Sizes of classes overlap, so that shape must be seen: from the box alone, three of ten objects can be named.
"""

SMALL, LARGE = 0.3, 0.7
"""Overall sizes (0 to 1) below and above which an object is called small or large."""

TILT = math.radians(5)
"""Largest deviation of an object's orientation from the axes."""

Shift: TypeAlias = Literal["none", "pairs"]
"""Whether objects are as in training, or half of them of a held-out pair or style."""


@dataclass(frozen=True)
class Look:
    """What an object is, independent of its position.

    Attributes:
        name: its class.
        style: one of the styles of its class.
        colour: the colour by which texts name it.
        accent: its second colour.
        trim: colour of legs and handles.
        relative_size: overall size within the range of its style, 0 (smallest) to 1.
        detail_seed: seeds the small choices of its recipe, and its tones.
    """

    name: str
    style: str
    colour: str
    accent: str
    trim: str
    relative_size: float
    detail_seed: int

    @property
    def size(self) -> str:
        """`small`, `large`, or empty in between."""
        return "small" if self.relative_size < SMALL else "large" if self.relative_size > LARGE else ""

    @property
    def held_out(self) -> bool:
        """Whether training never shows such an object."""
        pair, styled = (self.colour, self.name), (self.style, self.name)
        return pair in HELD_OUT_PAIRS or styled in HELD_OUT_STYLES or self.name in UNSEEN_CLASSES

    @property
    def way(self) -> Style:
        """The recipe and sizes of its style."""
        return KINDS[self.name].styles[self.style]


@dataclass(frozen=True)
class Thing:
    """A built object, upright at the origin, rotated by `tilt` radians.

    Attributes:
        parts: parts in its own frame; after the rotation, the centre of their extent is above the origin, the
            lowest point at 0.
        half: half extent along x and y, and the height, after the rotation.
        top: height, half width and half depth of the face that can carry objects, in its own frame; None
            without one.
    """

    look: Look
    tilt: float
    parts: tuple[Part, ...]
    half: tuple[float, float, float]
    top: tuple[float, float, float] | None


def draw_look(rng: np.random.Generator, name: str, shift: Shift = "none", stands: str | None = None) -> Look:
    """Draws the look of an object of a class.

    Args:
        rng: random generator.
        name: the class.
        shift: `pairs` makes about half of the objects held-out ones; `none` makes none.
        stands: restricts the styles to those that stand there (floor, top, wall).

    Raises:
        ValueError: no style of this class stands there.
    """

    def pick(names: Sequence[str]) -> str:
        return names[int(rng.integers(len(names)))]

    styles = [s for s, style in KINDS[name].styles.items() if stands in (None, style.stands)]
    seen = [s for s in styles if (s, name) not in HELD_OUT_STYLES]
    if not seen:
        raise ValueError(
            f"no style of {name!r} stands on the {stands}; it has {', '.join(KINDS[name].styles)}"
        )
    unlike = shift == "pairs" and rng.random() < 0.5
    style_too = unlike and len(seen) < len(styles) and rng.random() < 0.5
    pool = [s for s in styles if s not in seen] if style_too else seen
    style = pick(pool)
    in_colour = unlike and not style_too and name in CLASSES
    colours = [c for c in COLOURS if ((c, name) in HELD_OUT_PAIRS) == in_colour]
    colour = pick(colours)
    accent, trim = pick([c for c in COLOURS if c != colour]), pick(tuple(TRIMS))
    return Look(name, style, colour, accent, trim, float(rng.random()), int(rng.integers(2**31)))


def other_than(look: Look, rng: np.random.Generator, attribute: str) -> Look:
    """The look of a twin that differs in `colour` or `size` only; its colour is never held out."""
    if attribute == "size":
        relative_size = rng.uniform(0, SMALL) if look.relative_size > 0.5 else rng.uniform(LARGE, 1)
        return replace(look, relative_size=float(relative_size))
    others = [c for c in COLOURS if c not in (look.colour, look.accent)]
    free = [c for c in others if (c, look.name) not in HELD_OUT_PAIRS]
    return replace(look, colour=free[int(rng.integers(len(free)))])


@lru_cache(maxsize=256)
def built(look: Look) -> Thing:
    """Builds the object of a look, deterministically."""
    rng = np.random.default_rng(look.detail_seed)
    near = np.clip(look.relative_size + rng.uniform(-VARIETY, VARIETY, 3), 0, 1)
    limits = [(low * SPREAD[0], high * SPREAD[1]) for low, high in look.way.sizes]
    w, d, h = (low + (high - low) * float(part) for (low, high), part in zip(limits, near, strict=True))
    parts = look.way.recipe(Order(w, d, h, rng))
    tilt = 0.0 if look.way.stands == "wall" else float(rng.uniform(-TILT, TILT))
    low, high = extent(parts, tilt)
    middle = (low + high) / 2
    c, s = math.cos(tilt), math.sin(tilt)
    shift = (-c * middle[0] - s * middle[1], s * middle[0] - c * middle[1], -low[2])
    half = (float(high[0] - low[0]) / 2, float(high[1] - low[1]) / 2, float(high[2] - low[2]))
    fraction = look.way.top
    return Thing(
        look,
        tilt,
        tuple(moved(parts, shift)),
        half,
        (half[2], w * fraction / 2, d * fraction / 2) if fraction else None,
    )
