"""Callback that shows sample answers of each evaluation set, with boxes drawn on images and point clouds."""

import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

import lightning as L
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from octavius.callbacks.board import PREDICTED, TRUE, log_folder, show, show_table
from octavius.callbacks.cloud_pictures import cloud_of, cloud_panel
from octavius.display import visible
from octavius.evaluation.answers import Answered
from octavius.instruction.sample import Boxes, LabelledBox
from octavius.limits import POSITIVE_INT
from octavius.media.pictures import open_picture
from octavius.tasks import TASKS

PANEL = 3.4
"""Width and height of a panel in inches."""
PIXELS = 1024
"""Maximum length of a drawn image's longer side; larger images are scaled down."""
MAX_ASPECT = 8.0
"""Maximum aspect ratio of a panel; more elongated images are stretched."""
COLUMNS = ("question", "true", "predicted", "experts")
"""Columns of the table of answers."""
TEXT_HEIGHT = 1.1
"""Height in inches of the text below the picture of a cloud."""


class AnswerSamples(L.Callback):
    """Shows sample answers after each evaluation, the same samples each time.

    In every tracker: `answers/{stage}/{set_name}` (a table of questions, true and predicted answers, experts),
    `detections/{stage}` (images with boxes) and `clouds/{stage}` (point clouds with boxes and answers), the
    last two also as `detections_{stage}.png` and `clouds_{stage}.png` in the log folder.
    """

    def __init__(self, per_benchmark: int = 4) -> None:
        """Sets how much is shown.

        Args:
            per_benchmark: number of answers, and of pictures, per evaluation set.
        """
        if per_benchmark < 1:
            raise ValueError(
                f"per_benchmark must be at least 1, found {per_benchmark}; "
                "leave the callback out to show nothing"
            )
        POSITIVE_INT.check(per_benchmark=per_benchmark)
        self.per_benchmark = per_benchmark

    def on_answers(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        stage: str,
        answers: Sequence[Answered],
    ) -> None:
        """Shows samples of one evaluation; called on every rank with all answers."""
        folder = log_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        for set_name, items in choose(answers, self.per_benchmark).items():
            show_table(trainer, f"answers/{stage}/{visible(set_name)}", COLUMNS, table(items))
        pictures = choose([item for item in answers if picture_of(item)], self.per_benchmark)
        if pictures:
            title = f"Detections, {stage}, step {trainer.global_step}"
            show(trainer, draw(pictures, title), f"detections/{stage}", folder / f"detections_{stage}.png")
        clouds = choose([item for item in answers if cloud_of(item)], self.per_benchmark)
        if clouds:
            figure = draw(
                clouds, f"Point clouds, {stage}, step {trainer.global_step}", cloud_panel, TEXT_HEIGHT
            )
            show(trainer, figure, f"clouds/{stage}", folder / f"clouds_{stage}.png")


def choose(answers: Sequence[Answered], count: int) -> dict[str, list[Answered]]:
    """Up to `count` answers of each evaluation set: a pseudo-random choice by id, the same at every evaluation."""
    chosen: dict[str, list[Answered]] = {}
    for item in sorted(
        answers, key=lambda item: (zlib.crc32(item.sample.id.encode(errors="surrogatepass")), item.sample.id)
    ):
        items = chosen.setdefault(item.set_name, [])
        if len(items) < count:
            items.append(item)
    return dict(sorted(chosen.items()))


def table(items: Sequence[Answered]) -> list[list[str]]:
    """Rows of a table of answers, with the experts that were used; answers that could not be parsed are marked."""
    rows = []
    for item in items:
        true = TASKS[item.sample.task].answer(item.sample, random.Random(0))
        predicted = visible(item.text) + ("" if item.value is not None else " (not readable)")
        used = [f"{expert}: {weight:.2f}" for expert, weight in enumerate(item.gate or ()) if weight > 0]
        rows.append([visible(item.question), visible(true), predicted, ", ".join(used)])
    return rows


def picture_of(item: Answered) -> Path | None:
    """The image file of a detection sample; None for other tasks, and for media in memory."""
    media = item.sample.media.get("image")
    return media.path if media is not None and isinstance(item.sample.gold, Boxes) else None


def draw(
    pictures: dict[str, list[Answered]],
    title: str,
    panel: Callable[[Axes, Answered, str], None] | None = None,
    text_height: float = 0.0,
) -> Figure:
    """A grid with a row per evaluation set: pictures with true and predicted boxes.

    Args:
        pictures: answers by evaluation set.
        title: title of the figure.
        panel: draws one answer with its title; by default a detection.
        text_height: height in inches of the text below each panel.
    """
    columns = max(len(items) for items in pictures.values())
    size = (max(PANEL * columns, 5.0), (PANEL + 0.25 + text_height) * len(pictures) + 0.7)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid = figure.subplots(len(pictures), columns, squeeze=False)
    for row, (set_name, items) in zip(grid, pictures.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, item in zip(row, items, strict=False):
            (panel or detection_panel)(axes, item, f"{set_name}: {item.sample.id}")
    figure.suptitle(title)
    handles = [
        Line2D([], [], color=TRUE, linewidth=2, label="true"),
        Line2D([], [], color=PREDICTED, linewidth=2, linestyle="--", label="predicted"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def detection_panel(axes: Axes, item: Answered, title: str) -> None:
    """Draws one image with its boxes, in relative coordinates (0..1)."""
    assert picture_of(item) is not None
    assert isinstance(item.sample.gold, Boxes)
    axes.set_title(title if len(title) <= 44 else f"…{title[-43:]}", fontsize=8)
    try:
        image = open_picture(item.sample.media["image"])
    except ValueError as error:  # with precomputed tokens the image itself may be missing
        words = fill(str(error), 50)
        axes.text(0.5, 0.5, words, transform=axes.transAxes, fontsize=7, ha="center", parse_math=False)
        return
    shape = image.height / image.width
    image.thumbnail((PIXELS, PIXELS))
    axes.imshow(np.asarray(image), extent=(0, 1, 1, 0))
    axes.set_aspect(min(max(shape, 1 / MAX_ASPECT), MAX_ASPECT))
    for thing in (one for one in item.sample.gold.objects if not one.ignored):
        _box(axes, thing, TRUE, "-", below=False)
    for thing in item.value if isinstance(item.value, tuple) else ():
        _box(axes, thing, PREDICTED, "--", below=True)


def _box(axes: Axes, thing: LabelledBox, colour: str, style: str, below: bool) -> None:
    """Draws a box with its label at its top or bottom edge, outside unless near the image border."""
    x1, y1, x2, y2 = thing.box
    frame = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linestyle=style, linewidth=1.8
    )
    frame.set_path_effects([patheffects.withStroke(linewidth=3.5, foreground="white")])
    axes.add_patch(frame)
    left = x1 < 0.65
    y = y2 if below else y1
    outside = y < 0.93 if below else y > 0.07
    axes.text(
        x1 if left else x2,
        y,
        visible(thing.label, 40),
        ha="left" if left else "right",
        va="top" if below == outside else "bottom",
        fontsize=7,
        color="white",
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
    )
