"""Types of furniture classes (`Kind`), their styles, and the recipes that build objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.solids import Part

Range: TypeAlias = tuple[float, float]
"""Lowest and highest value in metres."""


class RecipeInput(NamedTuple):
    """Input of a recipe: width (x), depth (y) and height (z) in metres, and a generator for random choices."""

    w: float
    d: float
    h: float
    rng: np.random.Generator


Recipe: TypeAlias = Callable[[RecipeInput], list[Part]]
"""Builds the parts of an object near the origin, with its front towards +y; `built` centres them."""


@dataclass(frozen=True)
class Style:
    """One way of building the objects of a class.

    Attributes:
        sizes: ranges of width, depth and height in metres.
        recipe: builds the parts.
        stands: where such objects are placed: on the floor, on top of another object, or on a wall.
        hangs: range of heights of the lower edge of an object on a wall.
        top: fraction of width and depth that can carry other objects, at full height; 0 for none.
    """

    sizes: tuple[Range, Range, Range]
    recipe: Recipe
    stands: Literal["floor", "top", "wall"] = "floor"
    hangs: Range = (0.0, 0.0)
    top: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A class of furniture.

    Attributes:
        styles: styles by name; if there are three or more, the last is held out of training.
        nyu40: its NYU40 id in ScanNet's label table.
        front: whether it has a front, so that left and right of it are defined.
        plural: plural of the class name.
    """

    styles: Mapping[str, Style]
    nyu40: int
    front: bool
    plural: str
