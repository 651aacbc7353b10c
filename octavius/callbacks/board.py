"""Figures come in; they go out to every TensorBoard log of the trainer and to a PNG file beside the logs."""

from pathlib import Path

import lightning as L
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

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
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)  # a figure that pyplot does not know draws itself with Agg
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    for writer in writers(trainer):
        writer.add_image(tag, pixels, trainer.global_step, dataformats="HWC")
