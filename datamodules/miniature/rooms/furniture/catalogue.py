"""All furniture classes: draws appearances (class, style, colours, size), builds objects, has the held-out ones."""

import math
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
from datamodules.miniature.rooms.furniture.style import RecipeInput, Style
from datamodules.miniature.rooms.furniture.tables import TABLES
from datamodules.miniature.world import pick

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
"""Pairs (colour, class) that never occur in training; every class and every colour does, in other pairs."""

HELD_OUT_STYLES = frozenset(
    (tuple(kind.styles)[-1], name) for name, kind in SEEN.items() if len(kind.styles) > 2
)
"""Pairs (style, class) that never occur in training."""

SPREAD, VARIETY = (0.88, 1.12), 0.3
"""Factors that widen the size range of a style, and random deviation of each side from the overall size (0 to 1).

Size ranges of classes overlap, so that objects must be recognized by shape: from the box alone, a classifier
recognizes three of ten.
"""

SMALL, LARGE = 0.3, 0.7
"""Overall sizes (0 to 1) below and above which an object is called small or large."""

TILT = math.radians(5)
"""Largest deviation of an object's orientation from the axes."""

Shift: TypeAlias = Literal["none", "pairs"]
"""How objects differ from those of training: not at all, or about half of them have a held-out pair or style."""


@dataclass(frozen=True)
class Appearance:
    """Class and appearance of an object, independent of its position.

    Attributes:
        name: its class.
        style: one of the styles of its class.
        colour: the colour by which texts name it.
        accent: its second colour.
        trim: colour of legs and handles.
        relative_size: overall size within the range of its style, 0 (smallest) to 1.
        detail_seed: seed of its proportions, of the random choices of its recipe, of its tilt and of its tones.
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
        """Whether it belongs to what is held out of training: a pair, a style or a class."""
        pair, styled = (self.colour, self.name), (self.style, self.name)
        return pair in HELD_OUT_PAIRS or styled in HELD_OUT_STYLES or self.name in UNSEEN_CLASSES

    @property
    def way(self) -> Style:
        """Its style, with recipe and sizes."""
        return KINDS[self.name].styles[self.style]


@dataclass(frozen=True)
class Thing:
    """The shape of an object at the origin, in metres.

    Attributes:
        appearance: its class and appearance.
        tilt: rotation about the vertical in radians, to be applied to `parts`.
        parts: its parts before this rotation. After it, the centre of their bounds is above the origin, and the
            lowest point is at height 0.
        half: half the extent along x, half the extent along y, and the height, after the rotation.
        top: height, half width and half depth, before the rotation, of the face that can carry objects; None if
            there is none.
    """

    appearance: Appearance
    tilt: float
    parts: tuple[Part, ...]
    half: tuple[float, float, float]
    top: tuple[float, float, float] | None


def draw_appearance(
    rng: np.random.Generator, name: str, shift: Shift = "none", stands: str | None = None
) -> Appearance:
    """Draws the appearance of an object of a class.

    Args:
        rng: random generator.
        name: the class.
        shift: with `pairs`, about half of the objects are held out; with `none`, none is.
        stands: restricts the styles to those that stand there (floor, top, wall).

    Raises:
        ValueError: no style of this class stands there.
    """
    styles = [s for s, style in KINDS[name].styles.items() if stands in (None, style.stands)]
    seen = [s for s in styles if (s, name) not in HELD_OUT_STYLES]
    if not seen:
        raise ValueError(
            f"no style of {name!r} stands on the {stands}; it has {', '.join(KINDS[name].styles)}"
        )
    unlike = shift == "pairs" and rng.random() < 0.5
    style_too = unlike and len(seen) < len(styles) and rng.random() < 0.5
    pool = [s for s in styles if s not in seen] if style_too else seen
    style = pick(rng, pool)
    in_colour = unlike and not style_too and name in CLASSES
    colours = [c for c in COLOURS if ((c, name) in HELD_OUT_PAIRS) == in_colour]
    colour = pick(rng, colours)
    accent, trim = pick(rng, [c for c in COLOURS if c != colour]), pick(rng, tuple(TRIMS))
    return Appearance(name, style, colour, accent, trim, float(rng.random()), int(rng.integers(2**31)))


def other_than(appearance: Appearance, rng: np.random.Generator, attribute: str) -> Appearance:
    """The same appearance except for the attribute, `colour` or `size`; a new colour is never a held-out one."""
    if attribute == "size":
        relative_size = rng.uniform(0, SMALL) if appearance.relative_size > 0.5 else rng.uniform(LARGE, 1)
        return replace(appearance, relative_size=float(relative_size))
    others = [c for c in COLOURS if c not in (appearance.colour, appearance.accent)]
    free = [c for c in others if (c, appearance.name) not in HELD_OUT_PAIRS]
    return replace(appearance, colour=pick(rng, free))


@lru_cache(maxsize=256)
def built(appearance: Appearance) -> Thing:
    """The shape of an appearance, deterministic and cached."""
    rng = np.random.default_rng(appearance.detail_seed)
    near = np.clip(appearance.relative_size + rng.uniform(-VARIETY, VARIETY, 3), 0, 1)
    limits = [(low * SPREAD[0], high * SPREAD[1]) for low, high in appearance.way.sizes]
    w, d, h = (low + (high - low) * float(part) for (low, high), part in zip(limits, near, strict=True))
    parts = appearance.way.recipe(RecipeInput(w, d, h, rng))
    tilt = 0.0 if appearance.way.stands == "wall" else float(rng.uniform(-TILT, TILT))
    low, high = extent(parts, tilt)
    middle = (low + high) / 2
    c, s = math.cos(tilt), math.sin(tilt)
    shift = (-c * middle[0] - s * middle[1], s * middle[0] - c * middle[1], -low[2])
    half = (float(high[0] - low[0]) / 2, float(high[1] - low[1]) / 2, float(high[2] - low[2]))
    fraction = appearance.way.top
    return Thing(
        appearance,
        tilt,
        tuple(moved(parts, shift)),
        half,
        (half[2], w * fraction / 2, d * fraction / 2) if fraction else None,
    )
