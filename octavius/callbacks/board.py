"""Figures of the callbacks: saved beside the logs, and shown in every TensorBoard log of the trainer.

Labels, ids and answers in them are drawn as they are: matplotlib would read two `$` as mathematics, and raise.
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
from octavius.files import replacing

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart; its black is grey here."""

TRUE, PREDICTED = COLOURS[0], COLOURS[5]
"""Boxes: true ones solid, predicted ones dashed."""


def log_folder(trainer: L.Trainer) -> Path | None:
    """The folder of the trainer's logs; None when nothing is logged.

    To be called on every process: finding the folder is a broadcast.
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
    """Draws a figure once, into the event files under the tag and into the PNG file."""
    save(figure, file)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    for writer in writers(trainer):
        writer.add_image(tag, pixels, trainer.global_step, dataformats="HWC")


def save(figure: Figure, file: Path) -> None:
    """Draws a figure into a PNG file; no text in it is taken for mathematics."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(drawable(text.get_text()))
    # Labels that are made while drawing go by the setting.
    with rc_context({"text.parse_math": False}), replacing(file) as partial:
        figure.savefig(partial)  # a figure that pyplot does not know draws itself with Agg


def drawable(text: str, longest: int = 600) -> str:
    """A text of which every character has a glyph: a square for those that the font lacks, such as emoji."""
    glyphs = _glyphs()
    shown = visible(text, longest, breaks=True).replace("\t", " ")
    return "".join(letter if letter == "\n" or ord(letter) in glyphs else "\u25a1" for letter in shown)


def legend_label(text: str) -> str:
    """A text in a legend, which leaves out those that begin with an underscore."""
    shown = drawable(text, 60)
    return f" {shown}" if shown.startswith("_") else shown


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
