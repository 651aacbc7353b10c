"""Draws answers about point clouds: the cloud with true and predicted boxes, question and answers below it."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill, shorten

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes

from octavius.boxes import Box3D
from octavius.boxes3d import CORNER_PAIRS, corners
from octavius.callbacks.board import PREDICTED, TRUE
from octavius.evaluation.answers import Answered
from octavius.instruction.sample import DescribedObject, DescribedObjects, Media
from octavius.media.clouds import read_points
from octavius.tasks import TASKS

SIZE = 320
"""Width and height of a picture in pixels."""
YAW, PITCH = math.radians(-60), math.radians(50)
"""Direction of the viewer: azimuth counter-clockwise from +x seen from above, and elevation, in radians."""
CEILING = 2.2
"""Height in metres above the floor at which a room is cut off, to look in from above."""
WALL = 0.2
"""Thickness in metres that is cut off the two walls facing the viewer."""
AROUND = 0.6
"""Margin in metres around the object that the question is about."""


@dataclass(frozen=True)
class View:
    """Orthographic projection onto a square picture.

    Attributes:
        axes: (3, 3) world directions of the picture's right, down, and depth, as rows.
        middle: (2,) coordinates along the first two that map to the centre of the picture.
        scale: pixels per metre.
    """

    axes: np.ndarray
    middle: np.ndarray
    scale: float

    def pixels(self, xyz: np.ndarray) -> np.ndarray:
        """Projects points (N, 3) to columns, rows and depths (N, 3)."""
        seen = xyz @ self.axes.T
        seen[:, :2] = (seen[:, :2] - self.middle) * self.scale + SIZE / 2
        return seen


def view_of(xyz: np.ndarray) -> View:
    """The view that fits points (N, 3) into the picture."""
    right = np.array([-math.sin(YAW), math.cos(YAW), 0.0])
    away = -np.array([math.cos(YAW) * math.cos(PITCH), math.sin(YAW) * math.cos(PITCH), math.sin(PITCH)])
    axes = np.stack([right, np.cross(away, right), away])
    seen = (xyz @ axes.T)[:, :2]
    low, high = seen.min(0), seen.max(0)
    return View(axes, (low + high) / 2, 0.94 * SIZE / max(float((high - low).max()), 1e-6))


def splat(points: np.ndarray, view: View) -> np.ndarray:
    """Renders points (P, 6) as square dots, near over far; bytes (SIZE, SIZE, 3) on light grey."""
    image = np.full((SIZE, SIZE, 3), 232, np.uint8)
    pixels = view.pixels(points[:, :3].astype(np.float64))
    order = np.argsort(-pixels[:, 2], kind="stable")
    columns, rows = np.floor(pixels[order, :2]).astype(int).T
    colours = (points[order, 3:].clip(0, 1) * 255).astype(np.uint8)
    side = min(8, max(2, math.ceil(1.3 * SIZE / math.sqrt(len(points)))))
    reach = np.arange(side) - side // 2
    across, down = (grid.ravel() for grid in np.meshgrid(reach, reach))
    # Sorted from far to near and all pixels of a dot together: of repeated indices the last assignment, that is
    # the nearest dot, wins.
    x, y = (columns[:, None] + across).ravel(), (rows[:, None] + down).ravel()
    inside = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
    image[y[inside], x[inside]] = np.repeat(colours, side * side, axis=0)[inside]
    return image


def cloud_of(item: Answered) -> Media | None:
    """The point cloud file of an answer; None for other media, and for media in memory."""
    media = item.sample.media.get("cloud")
    return media if media is not None and media.path is not None else None


def shown_part(points: np.ndarray, box: Box3D | None) -> np.ndarray:
    """The points (P, 6) to draw: an object with its surroundings, or a scene opened towards the viewer."""
    xyz = points[:, :3]
    if box is not None:
        middle, half = np.array(box[:3]), np.array(box[3:]) / 2 + AROUND
        near = points[(np.abs(xyz - middle) <= half).all(1)]
        return near if len(near) else points
    floor, low, high = np.percentile(xyz[:, 2], 1), xyz.min(0), xyz.max(0)
    if high[2] - floor < CEILING:  # not a room, or one without a ceiling
        return points
    kept = xyz[:, 2] < floor + CEILING
    for axis, side in enumerate((math.cos(YAW), math.sin(YAW))):
        kept &= xyz[:, axis] < high[axis] - WALL if side > 0 else xyz[:, axis] > low[axis] + WALL
    return points[kept] if kept.any() else points


def boxes_of(item: Answered) -> tuple[list[Box3D], list[Box3D]]:
    """The true boxes (or that of the object in question), and the predicted ones."""
    gold, media = item.sample.gold, item.sample.media["cloud"]
    true = [thing.box for thing in gold.objects] if isinstance(gold, DescribedObjects) else []
    if media.region is not None and media.region.box is not None:
        true.append(media.region.box)
    found = item.value if isinstance(item.value, tuple) else ()
    return true, [thing.box for thing in found if isinstance(thing, DescribedObject)]


def cloud_panel(axes: Axes, item: Answered, title: str) -> None:
    """Draws one cloud with its boxes, and below it the question, the true answer and the prediction."""
    media = cloud_of(item)
    assert media is not None
    axes.set_title(title if len(title) <= 44 else f"…{title[-43:]}", fontsize=8)
    true = TASKS[item.sample.task].answer(item.sample, random.Random(0))
    words = (("asked", item.question), ("true", true), ("said", item.text))
    lines = [fill(shorten(f"{mark}: {text}", 170, placeholder=" …"), 58) for mark, text in words]
    axes.text(0.0, -0.02, "\n".join(lines), transform=axes.transAxes, fontsize=7, va="top", parse_math=False)
    try:
        points = shown_part(read_points(media), media.region.box if media.region else None)
    except ValueError as error:  # with precomputed features the cloud itself may be missing
        axes.text(0.5, 0.5, fill(str(error), 50), transform=axes.transAxes, fontsize=7, ha="center")
        return
    view = view_of(points[:, :3].astype(np.float64))
    axes.imshow(splat(points, view), extent=(0, SIZE, SIZE, 0))
    for boxes, colour, style in zip(boxes_of(item), (TRUE, PREDICTED), ("-", "--"), strict=True):
        _draw_edges(axes, view, boxes, colour, style)
    axes.set(xlim=(0, SIZE), ylim=(SIZE, 0))


def _draw_edges(axes: Axes, view: View, boxes: Sequence[Box3D], colour: str, style: str) -> None:
    for box in boxes:
        projected = view.pixels(corners(np.array(box, float)))
        for first, second in CORNER_PAIRS:
            (line,) = axes.plot(
                *projected[[first, second], :2].T, color=colour, linestyle=style, linewidth=1.2
            )
            line.set_path_effects([patheffects.withStroke(linewidth=2.4, foreground="white")])
