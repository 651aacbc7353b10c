"""Renders coloured point clouds: a view of a single object, or a scene with its boxes."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from octavius.boxes3d import corners

BACKGROUND = 0.72
"""Grey of the background; no furniture has this colour."""

MARGIN = 0.05
"""Fraction of the image that stays free at each side."""

CUT = 0.15
"""Metres cut off a scene on the sides that face the viewer."""

LENS = 2.2
"""Distance of the viewer from the centre of a scene, in halves of its diagonal."""

EDGES = (*((i, (i + 1) % 4) for i in range(4)), *((4 + i, 4 + (i + 1) % 4) for i in range(4)))
EDGES = (*EDGES, *((i, i + 4) for i in range(4)))
"""Pairs of corners that an edge joins, in the order of `octavius.boxes3d.corners`."""

INKS = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (90, 60, 160),
    (120, 70, 20),
)
"""Colours of boxes, distinguishable for colour-blind readers."""


def render(points: np.ndarray, yaw: float, pitch: float = 0.35, size: int = 64) -> np.ndarray:
    """Renders a view of an object that fills the image: parallel projection, splats, z-buffer, light from above.

    Args:
        points: (P, 6) x, y, z (up) in any unit, then red, green, blue in 0..1.
        yaw: direction of the viewer, radians counter-clockwise about the vertical; 0 is in front of an
            object, on the side of +y.
        pitch: elevation of the viewer in radians.
        size: side of the image in pixels.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: there are no points, or they have no colours.
    """
    _check(points)
    seen = points[:, :3] @ _axes(yaw, pitch).T
    low, high = seen.min(0), seen.max(0)
    scale = size * (1 - 2 * MARGIN) / max(float((high - low)[:2].max()), 1e-9)
    pixels = (seen - (low + high) / 2) * scale * (1, -1, -1) + (size / 2, size / 2, 0)
    return _painted(pixels, points[:, 3:], pitch, size)


def render_scene(
    points: np.ndarray,
    boxes: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    yaw: float = 0.6,
    pitch: float = 0.75,
    size: int = 480,
) -> np.ndarray:
    """Renders a scene from above and outside, cut open on the viewer's side, with the edges and names of its boxes.

    Args:
        points: (P, 6) x, y, z (up) in metres, then red, green, blue in 0..1.
        boxes: (K, 6 or 7) centre, size and optionally yaw; none by default.
        labels: a name for each box, written at its top; boxes of one name share a colour.
        yaw: direction of the viewer, as in `render`.
        pitch: elevation of the viewer in radians.
        size: side of the image in pixels.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: there are no points, they have no colours, or there is not one name per box.
    """
    _check(points)
    frames = torch.as_tensor(np.zeros((0, 6)) if boxes is None else np.asarray(boxes, float))
    names = [""] * len(frames) if labels is None else list(labels)
    if len(names) != len(frames):
        raise ValueError(f"expected a name for each of the {len(frames)} boxes, found {len(names)} names")
    axes = _axes(yaw, pitch)
    kept = points[_open(points[:, :3], axes[2])]
    ends = corners(frames).numpy().reshape(-1, 3)
    low, high = np.quantile(kept[:, :3], 0.002, axis=0), np.quantile(kept[:, :3], 0.998, axis=0)
    seen = (np.concatenate([kept[:, :3], ends]) - (low + high) / 2) @ axes.T
    distance = LENS * float(np.linalg.norm(high - low)) / 2 + 1e-6
    away = np.maximum(distance - seen[:, 2], 0.05 * distance)
    flat = seen[:, :2] / away[:, None] * distance
    least, most = flat.min(0), flat.max(0)
    scale = size * (1 - 2 * MARGIN) / max(float((most - least).max()), 1e-9)
    places = (flat - (least + most) / 2) * scale * (1, -1) + size / 2
    pixels = np.concatenate([places, np.log(away)[:, None] * distance * scale], 1)
    picture = _painted(pixels[: len(kept)], kept[:, 3:], pitch, size)
    return _framed(picture, places[len(kept) :].reshape(-1, 8, 2), names)


def nearest_points(pixels: np.ndarray, size: int, reach: int) -> np.ndarray:
    """Index of the point that each pixel shows if points are squares: the nearest of those that cover it.

    Args:
        pixels: (P, 3) column, row and depth.
        size: side of the image in pixels.
        reach: pixels from the centre of a square to its sides, so that it is 2 * reach + 1 pixels wide.

    Returns:
        (size, size) indices of points, -1 for none.
    """
    count = len(pixels)
    ranks = np.empty(count, np.int64)
    order = np.argsort(pixels[:, 2], kind="stable")
    ranks[order] = np.arange(count)
    columns, rows = np.floor(pixels[:, :2]).astype(np.int64).T
    wide = size + 2 * reach  # squares may extend beyond the image
    shown = (np.minimum(columns, rows) >= -reach) & (np.maximum(columns, rows) < size + reach)
    nearest = np.full(wide * wide, count)
    np.minimum.at(nearest, (rows[shown] + reach) * wide + columns[shown] + reach, ranks[shown])
    cover = nearest.reshape(wide, wide)
    # A square splat is a minimum filter over the ranks of depth, separable by axis.
    cover = np.minimum.reduce([cover[step : step + size] for step in range(2 * reach + 1)])
    cover = np.minimum.reduce([cover[:, step : step + size] for step in range(2 * reach + 1)])
    return np.append(order, -1)[cover]


def splat_reach(pixels: np.ndarray, size: int) -> int:
    """The `reach` with which splats of points (P, 3) close a surface, assuming half of them on its far side."""
    cell = size / 16
    columns, rows = np.floor(np.clip(pixels[:, :2], 0, size - 1) / cell).astype(np.int64).T
    area = len(np.unique(rows * 16 + columns)) * cell**2
    return int(np.clip(round(math.sqrt(2 * area / len(pixels)) - 0.5), 1, size // 12))


def _check(points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 6 or not len(points):
        raise ValueError(
            f"expected points (P, 6) of x, y, z, red, green, blue to draw, found an array of {points.shape}; "
            "give a colourless cloud one grey"
        )


def _axes(yaw: float, pitch: float) -> np.ndarray:
    """The viewer's right, up and backward axis, as rows."""
    s, c, k, m = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    return np.array([[-c, -s, 0], [s * k, -c * k, m], [-s * m, c * m, k]])


def _open(points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Mask (P,) of the points that stay when walls in front of the viewer are cut away; all, if none would."""
    kept = np.ones(len(points), bool)
    for axis in (0, 1):
        if abs(towards[axis]) > 0.15:
            side = math.copysign(1, towards[axis])
            values = points[:, axis] * side
            kept &= values < np.quantile(values, 0.995) - CUT
    return kept if kept.any() else ~kept


def _painted(pixels: np.ndarray, colours: np.ndarray, pitch: float, size: int) -> np.ndarray:
    """The image of points given as column, row and depth, all in pixels."""
    shown = nearest_points(pixels, size, splat_reach(pixels, size))
    light = _light(np.where(shown < 0, np.nan, pixels[shown, 2]), pitch)
    picture = np.where(shown[..., None] < 0, BACKGROUND, colours[shown] * light[..., None])
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _light(depth: np.ndarray, pitch: float) -> np.ndarray:
    """Brightness of each pixel from the gradient of the depths (H, W) around it; NaN is background.

    Points have no normals, and an object of one colour would be a flat patch; tops are brightest.
    """
    slopes = []
    smooth = _smooth(depth)
    for axis in (0, 1):
        slope = np.zeros_like(smooth)
        ahead, behind = np.roll(smooth, -1, axis), np.roll(smooth, 1, axis)
        middle = (slice(1, -1), slice(None)) if axis == 0 else (slice(None), slice(1, -1))
        slope[middle] = ((ahead - behind) / 2)[middle]
        slopes.append(np.clip(np.nan_to_num(slope), -4, 4))
    down, right = slopes
    way = np.array([0.35, math.cos(pitch), math.sin(pitch)]) / math.sqrt(1 + 0.35**2)
    facing = (right * way[0] - down * way[1] + way[2]) / np.sqrt(1 + down**2 + right**2)
    return 0.85 + 0.15 * facing


def _smooth(depth: np.ndarray) -> np.ndarray:
    """The mean depth over each pixel and its neighbours, without the background."""
    for axis in (0, 1):
        stack = np.stack([np.roll(depth, 1, axis), depth, np.roll(depth, -1, axis)])
        known = ~np.isnan(stack)
        total = np.where(known, stack, 0).sum(0) / np.maximum(known.sum(0), 1)
        depth = np.where(np.isnan(depth), np.nan, total)
    return depth


def _framed(picture: np.ndarray, ends: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The image with boxes, whose corners are pixels (K, 8, 2), and their names."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    size = image.width
    font = ImageFont.load_default(max(9, size // 40))
    kinds = sorted(set(names))
    inks = [INKS[kinds.index(name) % len(INKS)] for name in names]
    for box, ink in zip(ends, inks, strict=True):
        for start, end in EDGES:
            pen.line([*map(float, box[start]), *map(float, box[end])], fill=ink, width=max(1, size // 240))
    for box, ink, name in zip(ends, inks, names, strict=True):
        if name:
            left, top, right, bottom = pen.textbbox((0, 0), name, font=font)
            x = min(max(float(box[:, 0].mean()) - right / 2, 0), size - right - 2)
            y = min(max(float(box[:, 1].min()) - bottom - 2, 0), size - bottom - 2)
            pen.rectangle((x + left - 2, y + top - 1, x + right + 2, y + bottom + 1), fill=ink)
            pen.text((x, y), name, fill=(255, 255, 255), font=font)
    return np.asarray(image)
