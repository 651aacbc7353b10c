"""Augmentation of object point clouds, in ULIP's order."""

import torch
from torch import Tensor

from octavius.media.meshes import GREY

SCALES, SHIFT = (0.8, 1.25), 0.1
"""Range of the scale, and largest shift along each axis."""

LEAN, MOST_LEAN = 0.06, 0.18
"""Standard deviation and limit of the small rotations about the three axes, in radians."""


def augment(
    points: Tensor,
    generator: torch.Generator,
    up_axis: int = 2,
    dropout: float = 0.875,
    colourless: float = 0.0,
) -> Tensor:
    """Drops points, scales, shifts, tilts slightly, rotates about the vertical, and removes colours.

    Args:
        points: (B, N, 3 or 6) scaled to the unit sphere.
        generator: random generator on the CPU.
        up_axis: vertical axis, 0 to 2. It is 2 in our frame, 1 in ShapeNet's.
        dropout: largest fraction of points to drop; dropped points are moved to the first point.
        colourless: fraction of clouds that become grey, as clouds of sets without colours.

    Returns:
        (B, N, 3 or 6).
    """
    if up_axis not in (0, 1, 2):
        raise ValueError(f"the vertical is axis 0, 1 or 2, found up_axis = {up_axis}")
    clouds, count, _ = points.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(clouds, *shape, generator=generator) * (high - low) + low).to(points)

    dropped = draw(0, 1, count) < draw(0, dropout, 1)
    points = torch.where(dropped[..., None], points[:, :1], points)
    tilt = (torch.randn(clouds, 3, generator=generator) * LEAN).clamp(-MOST_LEAN, MOST_LEAN).to(points)
    positions = points[..., :3] * draw(*SCALES, 1, 1) + draw(-SHIFT, SHIFT, 1, 3)
    for axis in range(3):
        positions = turned(positions, tilt[:, axis], axis)
    positions = turned(positions, draw(-torch.pi, torch.pi), up_axis)
    grey = draw(0, 1, 1, 1) < colourless
    return torch.cat([positions, torch.where(grey, GREY, points[..., 3:])], dim=-1)


def turned(positions: Tensor, angles: Tensor, axis: int) -> Tensor:
    """Rotates clouds (B, N, 3) by angles (B,) about an axis, counter-clockwise seen from its positive end."""
    first, second = ((axis + 1) % 3, (axis + 2) % 3)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    rows = list(positions.unbind(-1))
    rows[first], rows[second] = (
        cos * rows[first] - sin * rows[second],
        sin * rows[first] + cos * rows[second],
    )
    return torch.stack(rows, dim=-1)
