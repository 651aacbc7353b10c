"""Primitives that objects are built from (boxes, tubes, balls, sheets), with exact bounds and surface sampling.

Each object has its own frame in metres: x to its right, y to its front, z up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

Shape: TypeAlias = Literal["box", "tube", "ball", "sheet"]
Role: TypeAlias = Literal["body", "accent", "trim", "dark", "light"]
"""Which colour of the object a part has; `body` is the colour that texts name."""
Triple: TypeAlias = tuple[float, float, float]
"""x, y, z of a position or a size in metres, or red, green, blue in 0..1."""

WAVE = 0.12
"""Wavelength of a corrugated sheet in metres."""


@dataclass(frozen=True)
class Part:
    """One primitive.

    Attributes:
        shape: a tube is an elliptic cylinder or frustum, a sheet is a corrugated plane across y.
        size: width (x), depth (y), height (z) before rotation.
        centre: its centre.
        role: which colour of the object it has.
        turn: rotation about the vertical in radians, applied after the lean.
        lean: rotation about its own x axis in radians.
        taper: width at the top of a tube over the width at the bottom.
        open: whether a tube has no lid, so that it is visible from inside too.
    """

    shape: Shape
    size: Triple
    centre: Triple
    role: Role = "body"
    turn: float = 0.0
    lean: float = 0.0
    taper: float = 1.0
    open: bool = False


def box(size: Triple, at: Triple, role: Role = "body", turn: float = 0.0, lean: float = 0.0) -> Part:
    """A box; `at` is the centre of its underside before it leans."""
    return Part("box", size, _lifted(at, size), role, turn, lean)


def tube(
    size: Triple, at: Triple, role: Role = "body", taper: float = 1.0, open: bool = False, lean: float = 0.0
) -> Part:
    """An upright elliptic cylinder or frustum; `at` is the centre of its underside before it leans."""
    return Part("tube", size, _lifted(at, size), role, 0.0, lean, taper, open)


def ball(size: Triple, at: Triple, role: Role = "body") -> Part:
    """An ellipsoid; `at` is its lowest point."""
    return Part("ball", size, _lifted(at, size), role)


def sheet(size: Triple, at: Triple, role: Role = "body") -> Part:
    """A thin corrugated sheet; `at` is the centre of its lower edge."""
    return Part("sheet", size, _lifted(at, size), role)


def moved(parts: Sequence[Part], by: Triple) -> list[Part]:
    """The parts, translated."""
    return [
        replace(part, centre=tuple(float(c + b) for c, b in zip(part.centre, by, strict=True)))  # type: ignore[arg-type]
        for part in parts
    ]


def legs(w: float, d: float, h: float, thick: float, role: Role = "trim") -> list[Part]:
    """Four posts under the corners of a w x d rectangle."""
    x, y = (w - thick) / 2, (d - thick) / 2
    return [box((thick, thick, h), (sx * x, sy * y, 0), role) for sx in (-1, 1) for sy in (-1, 1)]


def fronts(w: float, d: float, z: float, h: float, rows: int, columns: int) -> list[Part]:
    """Doors or drawers with handles, on the front of a body of width w and depth d, between heights z and z + h."""
    wide, high = w / columns, h / rows
    parts = []
    for row in range(rows):
        for column in range(columns):
            x, bottom = (column + 0.5) * wide - w / 2, z + row * high
            parts.append(box((wide - 0.03, 0.02, high - 0.03), (x, d / 2 + 0.01, bottom + 0.015)))
            handle = (0.12, 0.03, 0.02) if high < wide else (0.02, 0.03, 0.12)
            parts.append(box(handle, (x, d / 2 + 0.035, bottom + high / 2), "dark"))
    return parts


def rotations(parts: Sequence[Part], turn: float = 0.0) -> np.ndarray:
    """Rotation matrices (n, 3, 3) of n parts, which are also all rotated by `turn` about the vertical."""
    turns, leans = (np.array([getattr(part, name) for part in parts]) for name in ("turn", "lean"))
    c, s, k, m = np.cos(turns + turn), np.sin(turns + turn), np.cos(leans), np.sin(leans)
    zero = np.zeros_like(c)
    rows = [[c, -s * k, s * m], [s, c * k, -c * m], [zero, m, k]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def extent(parts: Sequence[Part], turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner, (3,) each, of the bounds of parts that are rotated by `turn` about the vertical."""
    low, high = _extents(parts, turn)
    return low.min(0), high.max(0)


def _extents(parts: Sequence[Part], turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of the bounds of each part, (n, 3) each."""
    around = rotations(parts, turn)
    half = np.array([part.size for part in parts]) / 2
    centres = np.array([part.centre for part in parts]) @ _upright(turn).T
    reach = np.einsum("nij,nj->ni", np.abs(around), half)
    low, high = centres - reach, centres + reach
    # Along an axis, a rotated ellipsoid reaches as far as the norm of the scaled row; a box as far as its sum.
    round_ = np.array([part.shape == "ball" for part in parts])
    reach = np.sqrt(np.einsum("nij,nj->ni", around**2, half**2))
    low[round_], high[round_] = (centres - reach)[round_], (centres + reach)[round_]
    tubes = np.array([part.shape == "tube" for part in parts])
    taper = np.array([part.taper for part in parts])[:, None]
    # A tube is the convex hull of its two rims.
    rim = np.sqrt(np.einsum("nij,nj->ni", around[:, :, :2] ** 2, half[:, :2] ** 2))
    axis = around[:, :, 2] * half[:, 2:]
    least = np.minimum(centres - axis - rim, centres + axis - rim * taper)
    most = np.maximum(centres - axis + rim, centres + axis + rim * taper)
    low[tubes], high[tubes] = least[tubes], most[tubes]
    return low, high


def area(part: Part) -> float:
    """Surface area of a part in square metres; approximate for round ones."""
    w, d, h = part.size
    if part.shape == "box":
        return 2 * (w * d + w * h + d * h)
    if part.shape == "ball":
        a, b, c = (w / 2) ** 1.6, (d / 2) ** 1.6, (h / 2) ** 1.6
        return float(4 * math.pi * ((a * b + a * c + b * c) / 3) ** (1 / 1.6))
    if part.shape == "tube":
        disc = math.pi * w * d / 4
        return _side(part) + disc + (0 if part.open else disc * part.taper**2)
    return w * h


def surface(part: Part, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random points on a part's surface with outward normals, (count, 3) each, in the object's frame.

    A zero normal marks a surface that is visible from both sides.
    """
    points, normals = SAMPLERS[part.shape](part, count, rng)
    around = rotations([part])[0]
    return points @ around.T + np.array(part.centre), normals @ around.T


def _on_box(part: Part, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    w, d, h = part.size
    share = np.array([d * h, w * h, w * d])
    axis = rng.choice(3, count, p=share / share.sum())
    side = rng.choice((-1.0, 1.0), count)
    points, normals = rng.uniform(-0.5, 0.5, (count, 3)), np.zeros((count, 3))
    row = np.arange(count)
    points[row, axis], normals[row, axis] = side / 2, side
    return points * np.array(part.size), normals


def _on_ball(part: Part, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = np.array(part.size)
    direction = _unit(rng.normal(size=(count, 3)))
    return direction * size / 2, _unit(direction / size)


def _on_tube(part: Part, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    w, d, h = part.size
    disc = math.pi * w * d / 4
    share = np.array([_side(part), disc, 0 if part.open else disc * part.taper**2])
    where = rng.choice(3, count, p=share / share.sum())
    angle = rng.uniform(0, 2 * math.pi, count)
    up = np.where(where == 0, _height(part.taper, rng.random(count)), np.where(where == 1, 0.0, 1.0))
    out = (1 + (part.taper - 1) * up) * np.where(where == 0, 1, np.sqrt(rng.random(count)))
    x, y = np.cos(angle), np.sin(angle)
    points = np.stack([x * out * w / 2, y * out * d / 2, (up - 0.5) * h], 1)
    slope = (1 - part.taper) * min(w, d) / 2 / h
    sides = _unit(np.stack([x / w, y / d, np.full(count, slope / min(w, d))], 1))
    ends = np.stack([np.zeros(count), np.zeros(count), np.where(where == 1, -1.0, 1.0)], 1)
    normals = np.where(where[:, None] == 0, sides, ends)
    return points, normals * (0.0 if part.open else 1.0)


def _on_sheet(part: Part, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    w, d, h = part.size
    x, z = rng.uniform(-w / 2, w / 2, count), rng.uniform(-h / 2, h / 2, count)
    points = np.stack([x, np.sin(2 * math.pi * x / WAVE) * d / 2, z], 1)
    return points, np.zeros((count, 3))


SAMPLERS = {"box": _on_box, "ball": _on_ball, "tube": _on_tube, "sheet": _on_sheet}


def _side(part: Part) -> float:
    """Lateral surface area of a tube, approximate."""
    w, d, h = part.size
    a, b = w / 2, d / 2
    rim = math.pi * (1.5 * (a + b) - math.sqrt(a * b))
    return rim * (1 + part.taper) / 2 * math.hypot(h, min(a, b) * (1 - part.taper))


def _height(taper: float, share: np.ndarray) -> np.ndarray:
    """Heights in 0..1 on the side of a tube from uniform numbers `share`, with density proportional to its width."""
    if abs(taper - 1) < 1e-6:
        return share
    return (np.sqrt(1 + share * (taper**2 - 1)) - 1) / (taper - 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _upright(turn: float) -> np.ndarray:
    """Rotation about the vertical."""
    c, s = math.cos(turn), math.sin(turn)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _lifted(at: Triple, size: Triple) -> Triple:
    """The centre of a part whose underside has the centre `at`."""
    return at[0], at[1], at[2] + size[2] / 2
