"""The points and boxes of a scene come in, the same scene turned, mirrored, scaled and thinned out goes out."""

import math
from dataclasses import dataclass

import numpy as np

from octavius.limits import COUNT, NOT_NEGATIVE, SHARE


@dataclass(frozen=True)
class Augmentation:
    """How a training scene is changed; the defaults are FCAF3D's.

    Attributes:
        points: most points of a scene, drawn by chance; evaluation keeps to it as well.
        share: the least share of its points that is drawn, at most all of them (TR3D: 0.33).
        flip: how likely x, and y, are mirrored.
        quarter_turns: also turns by 0, 90, 180 or 270 degrees, which changes no box's shape; the published
            recipes do not.
        turn: largest turn about the vertical, degrees, either way (TR3D: 1.15). Boxes stay along the axes and
            grow.
        scale: least and largest factor.
        shift: standard deviation of the shift along x, y and z, metres.
    """

    points: int = 100_000
    share: float = 1.0
    flip: float = 0.5
    quarter_turns: bool = False
    turn: float = 5.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: tuple[float, float, float] = (0.1, 0.1, 0.1)

    def __post_init__(self) -> None:
        """Refuses what changes nothing into a scene."""
        if self.points < 1 or not 0 < self.share <= 1 or not 0 <= self.flip <= 1 or not self.scale[0] > 0:
            raise ValueError(
                "expected at least 1 point, a share above 0 and at most 1, a flip in 0..1 and scales above 0; "
                f"found {self}"
            )
        COUNT.check(points=self.points)
        SHARE.check(share=self.share, flip=self.flip)
        NOT_NEGATIVE.check(turn=self.turn, scale=self.scale, shift=self.shift)


def augment(
    points: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Changes a scene by chance; what lay in a box lies in it afterwards.

    Args:
        points: x, y, z and colours (P, 6).
        boxes: centre and size (M, 6).
        rng: decides everything.
        how: what is done.

    Returns:
        Points (P', 6) in random order, and boxes (M, 6).
    """
    count = math.ceil(len(points) * rng.uniform(how.share, 1))
    points = fewer(points, min(count, how.points), rng)
    angle = math.radians(rng.uniform(-how.turn, how.turn))
    quarters = int(rng.integers(4)) if how.quarter_turns else 0
    mirrored = np.where(rng.random(2) < how.flip, -1.0, 1.0)
    turn = _about_z(angle) @ np.linalg.matrix_power(_QUARTER, quarters) @ np.diag([*mirrored, 1.0])
    matrix = turn * rng.uniform(*how.scale)
    shift = rng.normal(size=3) * how.shift
    moved = np.concatenate([points[:, :3] @ matrix.T + shift, points[:, 3:]], axis=1, dtype=np.float32)
    sizes = boxes[:, 3:] @ np.abs(matrix).T  # the axis-aligned hull of a turned box
    return moved, np.concatenate([boxes[:, :3] @ matrix.T + shift, sizes], axis=1, dtype=np.float32)


def fewer(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (P, ...) in random order, at most `count` of them.

    Where several lie in one voxel the first is kept, so that their order decides which.
    """
    return points[rng.permutation(len(points))[:count]]


_QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _about_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
