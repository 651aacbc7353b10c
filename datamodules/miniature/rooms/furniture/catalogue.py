"""A look - class, style, colours, share of its size - comes in, a thing of parts goes out; and what is held out."""

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
"""Every class by its name; the first of them, `SEEN`, may occur in training."""

CLASSES = tuple(SEEN)
UNSEEN_CLASSES = tuple(NOVEL)

HELD_OUT_PAIRS = frozenset(
    (colour, name)
    for i, name in enumerate(CLASSES)
    for j, colour in enumerate(COLOURS)
    if (i + 2 * j) % 7 == 0
)
"""Colour and class never together in training; every class and every colour still occurs there."""

HELD_OUT_STYLES = frozenset(
    (tuple(kind.styles)[-1], name) for name, kind in SEEN.items() if len(kind.styles) > 2
)
"""Style and class never built in training."""

SPREAD, VARIETY = (0.88, 1.12), 0.3
"""How far things go beyond the usual sizes of their style, and each side alone beyond the share of the whole.

Classes overlap in size, so that what a thing is must be seen: a box alone names three things of ten.
"""

SMALL, LARGE = 0.3, 0.7
"""Shares of the way from the smallest to the largest below and above which a thing is called so."""

TILT = math.radians(5)
"""Things stand up to this much askew."""

Shift: TypeAlias = Literal["none", "pairs"]
"""Whether things are as in training, or half of them of a pair or a style that training never shows."""


@dataclass(frozen=True)
class Look:
    """What a thing is, wherever it stands; `ink` seeds the small choices of its recipe and its tones."""

    name: str
    style: str
    colour: str
    accent: str
    trim: str
    share: float
    ink: int

    @property
    def size(self) -> str:
        """`small`, `large`, or nothing for those between."""
        return "small" if self.share < SMALL else "large" if self.share > LARGE else ""

    @property
    def held_out(self) -> bool:
        """Whether training never shows such a thing."""
        pair, made = (self.colour, self.name), (self.style, self.name)
        return pair in HELD_OUT_PAIRS or made in HELD_OUT_STYLES or self.name in UNSEEN_CLASSES

    @property
    def way(self) -> Style:
        """Its style's recipe and sizes."""
        return KINDS[self.name].styles[self.style]


@dataclass(frozen=True)
class Thing:
    """A built thing that stands upright at the origin, `tilt` radians askew.

    Attributes:
        parts: in its own frame; once askew, the middle of their extent lies above the origin, the lowest at 0.
        half: half of its extent along x and y, and its height, once askew.
        top: height and half width and depth of the face that can carry things, in its own frame; None for none.
    """

    look: Look
    tilt: float
    parts: tuple[Part, ...]
    half: tuple[float, float, float]
    top: tuple[float, float, float] | None


def draw_look(rng: np.random.Generator, name: str, shift: Shift = "none", stands: str | None = None) -> Look:
    """Draws the look of a thing of a class.

    Args:
        rng: decides it.
        name: the class.
        shift: `pairs` makes about half of the things unlike any of training; `none` makes none so.
        stands: only styles that stand so (floor, top, wall).

    Raises:
        ValueError: no style of this class stands so.
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
    """The look of a twin that differs in its `colour` or its `size` alone; its colour is never a held-out one."""
    if attribute == "size":
        share = rng.uniform(0, SMALL) if look.share > 0.5 else rng.uniform(LARGE, 1)
        return replace(look, share=float(share))
    others = [c for c in COLOURS if c not in (look.colour, look.accent)]
    free = [c for c in others if (c, look.name) not in HELD_OUT_PAIRS]
    return replace(look, colour=free[int(rng.integers(len(free)))])


@lru_cache(maxsize=256)
def built(look: Look) -> Thing:
    """The thing of a look; always the same for the same look."""
    rng = np.random.default_rng(look.ink)
    near = np.clip(look.share + rng.uniform(-VARIETY, VARIETY, 3), 0, 1)
    limits = [(low * SPREAD[0], high * SPREAD[1]) for low, high in look.way.sizes]
    w, d, h = (low + (high - low) * float(part) for (low, high), part in zip(limits, near, strict=True))
    parts = look.way.recipe(Order(w, d, h, rng))
    tilt = 0.0 if look.way.stands == "wall" else float(rng.uniform(-TILT, TILT))
    low, high = extent(parts, tilt)
    middle = (low + high) / 2
    c, s = math.cos(tilt), math.sin(tilt)
    shift = (-c * middle[0] - s * middle[1], s * middle[0] - c * middle[1], -low[2])
    half = (float(high[0] - low[0]) / 2, float(high[1] - low[1]) / 2, float(high[2] - low[2]))
    share = look.way.top
    return Thing(
        look,
        tilt,
        tuple(moved(parts, shift)),
        half,
        (half[2], w * share / 2, d * share / 2) if share else None,
    )
