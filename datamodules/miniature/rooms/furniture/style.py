"""Data types of furniture classes and their styles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.solids import Part

Range: TypeAlias = tuple[float, float]


class Order(NamedTuple):
    """Input of a recipe: width, depth and height in metres, and a random generator for small choices."""

    w: float
    d: float
    h: float
    rng: np.random.Generator


Recipe: TypeAlias = Callable[[Order], list[Part]]


@dataclass(frozen=True)
class Style:
    """One way of building an object.

    Attributes:
        sizes: ranges of width, depth and height in metres.
        recipe: builds the parts.
        stands: on the floor, on top of something, or on a wall.
        hangs: range of heights of the lower edge of an object on a wall.
        top: fraction of width and depth that can carry objects, at full height; 0 for none.
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
        styles: styles by name; of three or more the last is held out of training.
        nyu40: its NYU40 id in ScanNet's label table.
        front: whether it has a front, so that left and right of it are defined.
        plural: plural of the class name.
    """

    styles: Mapping[str, Style]
    nyu40: int
    front: bool
    plural: str
