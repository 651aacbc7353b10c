"""Renders a coloured point cloud as an image: parallel projection, splats, z-buffer."""

import math

import numpy as np

BACKGROUND = 0.72
"""Grey of the background; no furniture has this colour."""

MARGIN = 0.05
"""Fraction of the image that stays free at each side."""


def render(points: np.ndarray, yaw: float, pitch: float = 0.35, size: int = 64) -> np.ndarray:
    """Renders a view of an object that fills the image: parallel projection, splats, z-buffer, light from above.

    Args:
        points: (P, 6) x, y, z (up) in any unit, then red, green, blue in 0..1.
        yaw: direction from the object to the viewer, in radians counter-clockwise about the vertical; at 0 the
            viewer is on the side of +y, in front of the object.
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


def nearest_points(pixels: np.ndarray, size: int, reach: int) -> np.ndarray:
    """Index of the point that each pixel shows if points are drawn as squares: the nearest of those that cover it.

    Args:
        pixels: (P, 3) column, row and depth; smaller is nearer.
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
    # Square splats are a minimum filter over the depth ranks, which is separable by axis.
    cover = np.minimum.reduce([cover[step : step + size] for step in range(2 * reach + 1)])
    cover = np.minimum.reduce([cover[:, step : step + size] for step in range(2 * reach + 1)])
    return np.append(order, -1)[cover]


def splat_reach(pixels: np.ndarray, size: int) -> int:
    """The `reach` of splats that leaves no holes between points (P, 3), if half of them are on the far side.

    The area of the object is estimated on a grid of 16 x 16 cells.
    """
    cell = size / 16
    columns, rows = np.floor(np.clip(pixels[:, :2], 0, size - 1) / cell).astype(np.int64).T
    area = len(np.unique(rows * 16 + columns)) * cell**2
    return int(np.clip(round(math.sqrt(2 * area / len(pixels)) - 0.5), 1, size // 12))


def _check(points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 6 or not len(points):
        raise ValueError(
            f"expected points (P, 6), x, y, z, red, green, blue, found the shape {points.shape}; give the points of "
            "a cloud without colours a grey"
        )


def _axes(yaw: float, pitch: float) -> np.ndarray:
    """The viewer's right, up and backward axis, as rows."""
    s, c, k, m = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    return np.array([[-c, -s, 0], [s * k, -c * k, m], [-s * m, c * m, k]])


def _painted(pixels: np.ndarray, colours: np.ndarray, pitch: float, size: int) -> np.ndarray:
    """The image of points given as column, row and depth, all in pixels."""
    shown = nearest_points(pixels, size, splat_reach(pixels, size))
    light = _light(np.where(shown < 0, np.nan, pixels[shown, 2]), pitch)
    image = np.where(shown[..., None] < 0, BACKGROUND, colours[shown] * light[..., None])
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


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
    # Direction of the light in the viewer's frame (right, up, backward): from above and a little from the right.
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
