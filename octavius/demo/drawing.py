"""What the page shows beside answers: boxes on the picture, bars of the experts' weights, and clouds to turn.

Answers and labels are untrusted text: all of it is escaped.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from octavius.boxes import Box3D
from octavius.boxes3d import CORNER_PAIRS, corners
from octavius.callbacks.board import PREDICTED, TRUE
from octavius.callbacks.cloud_pictures import PITCH, YAW, shown_part
from octavius.display import COLOURS, visible
from octavius.instruction.sample import LabelledBox, Media
from octavius.media.clouds import read_points
from octavius.media.pictures import open_picture
from octavius.serve.rows import Answer

PIXELS = 640
"""Longer side of a picture in an answer, in pixels; larger ones are scaled down."""
UNITS = 1000.0
"""Width of a picture in the units of the drawing; text and lines do not depend on the picture's own size."""
HEIGHT = 400
"""Height of the view of a cloud in pixels."""
POINTS = 15_000
"""Points of a cloud that are sent to the browser: a random subset, the same each time."""
FAR = 2.2
"""Distance of the camera, in units of the cloud's extent."""


def picture(media: Media, boxes: Sequence[LabelledBox] = (), width: int = 100) -> str:
    """A picture with boxes and their labels, as SVG that fits its container.

    Args:
        media: the image.
        boxes: boxes to draw.
        width: width in per cent of the container.
    """
    image = open_picture(media)
    height = UNITS * image.height / image.width
    image.thumbnail((PIXELS, PIXELS))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    data = base64.b64encode(file.getvalue()).decode()
    names = ", ".join(visible(box.label, 40) for box in boxes)
    title = html.escape(f"the picture with boxes around: {names}" if boxes else "the picture")
    drawn = "".join(_box(box, height) for box in boxes)
    return (
        f'<svg class="octavius-picture" role="img" aria-label="{title}" viewBox="0 0 {UNITS:g} {height:.1f}" '
        f'style="width:{width}%"><image width="{UNITS:g}" height="{height:.1f}" '
        f'preserveAspectRatio="none" href="data:image/jpeg;base64,{data}"/>{drawn}</svg>'
    )


def _box(box: LabelledBox, height: float) -> str:
    x1, y1, x2, y2 = box.box
    left, top = x1 * UNITS, y1 * height
    label = visible(box.label, 40)
    size, room = 40.0, 50.0
    wide = 0.68 * size * len(label) + 16
    x = max(0.0, min(left, UNITS - wide))
    y = top - room if top >= room else top
    frame = f'x="{left:.1f}" y="{top:.1f}" width="{(x2 - x1) * UNITS:.1f}" height="{(y2 - y1) * height:.1f}"'
    return (
        f'<rect {frame} fill="none" stroke="white" stroke-width="11"/>'
        f'<rect {frame} fill="none" stroke="{PREDICTED}" stroke-width="6"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{room:g}" fill="{PREDICTED}"/>'
        f'<text x="{x + 8:.1f}" y="{y + 0.9 * size:.1f}" font-size="{size:g}" fill="white">'
        f"{html.escape(label)}</text>"
    )


def bars(answer: Answer, experts: str = "") -> str:
    """The weight of each expert as a bar, with the margin of the largest one; empty without experts.

    Args:
        answer: the answer.
        experts: who was made to answer, in words; empty if the gate chose.
    """
    if answer.weights is None or answer.margin is None:
        return ""
    most = max(1.0, *answer.weights)
    rows = "".join(
        f'<div class="octavius-row"><span>expert {index}</span><div class="octavius-bar"><div style="width:'
        f'{100 * weight / most:.1f}%;background:{COLOURS[index % len(COLOURS)]}"></div></div>'
        f"<span>{weight:.2f}</span></div>"
        for index, weight in enumerate(answer.weights)
    )
    said = html.escape(f"instead of the gate's: {experts}")
    if not experts:
        said = f"chosen by the gate; margin between the first two: {answer.margin:.2f}"
    return f'<div class="octavius-bars">{rows}<div class="octavius-note">{said}</div></div>'


def cloud(media: Media, boxes: Mapping[str, Sequence[tuple[str, Box3D]]]) -> Any:
    """A plotly figure of a cloud with boxes; the view that was turned to is kept.

    Args:
        media: the cloud.
        boxes: name of whose boxes they are to (text, box) of each.
    """
    from plotly import graph_objects

    region = media.region.box if media.region is not None else None
    points = shown_part(read_points(media), region)
    if len(points) > POINTS:
        points = points[np.random.default_rng(0).choice(len(points), POINTS, replace=False)]
    x, y, z = points[:, :3].T
    colours = [f"rgb({r},{g},{b})" for r, g, b in (points[:, 3:].clip(0, 1) * 255).astype(int)]
    figure = graph_objects.Figure()
    figure.add_scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker={"size": 2, "color": colours},
        hoverinfo="skip",
        showlegend=False,
    )
    asked = {} if region is None else {"asked about": [("the object in question", region)]}
    for number, (name, items) in enumerate({**asked, **boxes}.items()):
        colour = TRUE if name in asked else (PREDICTED, COLOURS[2])[(number - len(asked)) % 2]
        for index, (text, box) in enumerate(items):
            edges = _edges(box)
            figure.add_scatter3d(
                x=edges[:, 0],
                y=edges[:, 1],
                z=edges[:, 2],
                mode="lines",
                line={"color": colour, "width": 5},
                name=html.escape(visible(name, 40)),
                legendgroup=name,
                showlegend=index == 0,
                hovertext=html.escape(visible(text, 120)),
                hoverinfo="text",
            )
    eye = {"x": np.cos(YAW) * np.cos(PITCH), "y": np.sin(YAW) * np.cos(PITCH), "z": np.sin(PITCH)}
    figure.update_layout(
        scene={
            "aspectmode": "data",
            "camera": {"eye": {axis: FAR * float(part) for axis, part in eye.items()}},
            **{f"{axis}axis": {"title": f"{axis} / m"} for axis in "xyz"},
        },
        height=HEIGHT,
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        legend={"orientation": "h"},
        uirevision=str(media.path),
    )
    return figure


def _edges(box: Box3D) -> np.ndarray:
    """The edges of a box as one line (36, 3), interrupted by NaN."""
    points = corners(np.array(box, float))
    gap = np.full(3, np.nan)
    return np.array([row for first, second in CORNER_PAIRS for row in (points[first], points[second], gap)])
