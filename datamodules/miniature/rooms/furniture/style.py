"""What a class of things is: its plural and label, and its styles with their sizes, parts and places."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from datamodules.miniature.rooms.furniture.solids import Part

Range: TypeAlias = tuple[float, float]


class Order(NamedTuple):
    """What a recipe is asked for: width, depth and height in metres, and a source of its small choices."""

    w: float
    d: float
    h: float
    rng: np.random.Generator


Recipe: TypeAlias = Callable[[Order], list[Part]]


@dataclass(frozen=True)
class Style:
    """One way of making a thing.

    Attributes:
        sizes: from the smallest to the largest width, depth and height, metres.
        recipe: makes its parts.
        stands: on the floor, on top of something, or hanging on a wall.
        hangs: heights of the lower edge of a thing on a wall.
        top: share of width and depth at the full height on which other things can stand; 0 for none.
    """

    sizes: tuple[Range, Range, Range]
    recipe: Recipe
    stands: Literal["floor", "top", "wall"] = "floor"
    hangs: Range = (0.0, 0.0)
    top: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A class of things.

    Attributes:
        styles: by name; of three or more the last is held out of all training.
        nyu40: the label of the NYU set of forty that ScanNet's table gives it.
        front: whether it has one, so that left and right of it mean something.
        plural: as counted.
    """

    styles: Mapping[str, Style]
    nyu40: int
    front: bool
    plural: str
