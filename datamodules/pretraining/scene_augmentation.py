"""Augmentation of scenes with boxes: subsampling, flips, rotations, scaling and shifts."""

import math
from dataclasses import dataclass

import numpy as np

from octavius.limits import FRACTION, NON_NEGATIVE_NUMBER, POSITIVE_INT, POSITIVE_NUMBER, Range


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of a training scene; the defaults are FCAF3D's.

    Attributes:
        points: largest number of points per scene, a random subset; applies to evaluation as well.
        share: smallest fraction of a scene's points that is used; drawn uniformly up to 1 (TR3D: 0.33).
        flip: probability of mirroring x, and of mirroring y.
        quarter_turns: also rotate by 0, 90, 180 or 270 degrees, which keeps boxes tight; the published
            recipes do not.
        turn: largest rotation about the vertical in degrees, either way (TR3D: 1.15). Boxes stay axis-aligned,
            so they grow to the bounds of the rotated box.
        scale: smallest and largest scale factor.
        shift: standard deviation of the shift along x, y and z in metres.
    """

    points: int = 100_000
    share: float = 1.0
    flip: float = 0.5
    quarter_turns: bool = False
    turn: float = 5.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: tuple[float, float, float] = (0.1, 0.1, 0.1)

    def __post_init__(self) -> None:
        """Validates the numbers."""
        POSITIVE_INT.check(points=self.points)
        Range(0, 1, exclude_minimum=True).check(share=self.share)
        FRACTION.check(flip=self.flip)
        POSITIVE_NUMBER.check(scale=self.scale)
        NON_NEGATIVE_NUMBER.check(turn=self.turn, shift=self.shift)


def augment(
    points: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Augments a scene; points that were in a box still are afterwards.

    Args:
        points: (P, 6) x, y, z and colours.
        boxes: (M, 6) centre and size.
        rng: random generator.
        how: the settings.

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
    sizes = boxes[:, 3:] @ np.abs(matrix).T  # the axis-aligned bounds of a rotated box
    return moved, np.concatenate([boxes[:, :3] @ matrix.T + shift, sizes], axis=1, dtype=np.float32)


def fewer(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` of the points (P, ...), in random order.

    The order matters, because voxelization keeps the first of the points in a voxel.
    """
    return points[rng.permutation(len(points))[:count]]


_QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _about_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
