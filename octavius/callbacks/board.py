"""Figures for the callbacks: saved in the log folder and shown in every TensorBoard log of the trainer.

Labels, ids and answers are drawn literally: matplotlib would interpret two `$` as math text, and fail on bad
syntax.
"""

from functools import lru_cache
from pathlib import Path

import lightning as L
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from octavius.display import visible
from octavius.files import atomic_write

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""The colour-blind safe palette of Okabe and Ito, with grey instead of black."""

TRUE, PREDICTED = COLOURS[0], COLOURS[5]
"""Colours of boxes: true ones are solid, predicted ones dashed."""


def log_folder(trainer: L.Trainer) -> Path | None:
    """The trainer's log folder; None without a logger.

    Call it on every rank: Lightning broadcasts the folder.
    """
    if not trainer.loggers:
        return None
    folder = trainer.log_dir
    return Path(folder) if folder else None


def writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """The TensorBoard writers among the trainer's loggers."""
    experiments = (getattr(logger, "experiment", None) for logger in trainer.loggers)
    return [experiment for experiment in experiments if isinstance(experiment, SummaryWriter)]


def show(trainer: L.Trainer, figure: Figure, tag: str, file: Path) -> None:
    """Renders a figure once, and adds it to TensorBoard under the tag and to the PNG file."""
    save(figure, file)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    for writer in writers(trainer):
        writer.add_image(tag, pixels, trainer.global_step, dataformats="HWC")


def save(figure: Figure, file: Path) -> None:
    """Saves a figure as PNG with math text disabled."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(drawable(text.get_text()))
    # The rc setting is for labels that are created only while drawing, such as those of ticks.
    with rc_context({"text.parse_math": False}), atomic_write(file) as partial:
        figure.savefig(partial)  # without pyplot, so with the Agg backend, which needs no display


def drawable(text: str, longest: int = 600) -> str:
    """Text with a square in place of each character that the font lacks, such as emoji."""
    glyphs = _glyphs()
    shown = visible(text, longest, breaks=True).replace("\t", " ")
    return "".join(letter if letter == "\n" or ord(letter) in glyphs else "\u25a1" for letter in shown)


def legend_label(text: str) -> str:
    """Text for a legend, with a leading space if it starts with an underscore: matplotlib hides such labels."""
    shown = drawable(text, 60)
    return f" {shown}" if shown.startswith("_") else shown


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
