"""Figures, tables and histograms for the callbacks: shown in TensorBoard, W&B, MLflow and trackio.

Labels, ids and answers are drawn literally: matplotlib would interpret two `$` as math text, and fail on bad
syntax.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from octavius.callbacks.trackio_logger import TrackioLogger
from octavius.display import COLOURS, markdown_cell, visible
from octavius.files import atomic_write

TRUE, PREDICTED = COLOURS[0], COLOURS[5]
"""Colours of boxes: true ones are solid, predicted ones dashed."""

ALMOST_NONE = 1e-12
"""Count of an empty bin at the ends of a histogram, which is too small to be seen."""

OVERVIEW, MEAN = "Overview/{}/{}", "mean"
"""Tag of the headline score of a stage and a task (mean over its sets), and in place of the task that of all.

TensorBoard sorts groups of tags by code point and shows the first ones, so that this one begins with a capital.
"""


def log_folder(trainer: L.Trainer) -> Path | None:
    """The trainer's log folder; None without a logger.

    Call it on every rank: Lightning broadcasts the folder.
    """
    if not trainer.loggers:
        return None
    folder, first = trainer.log_dir, trainer.loggers[0]
    if folder and isinstance(first, WandbLogger | MLFlowLogger | TrackioLogger):  # `log_dir` holds all runs
        own = trainer.strategy.broadcast(str(first.version or first.name))
        return Path(folder) / own
    return Path(folder) if folder else None


def writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """The TensorBoard writers among the trainer's loggers."""
    experiments = (getattr(logger, "experiment", None) for logger in trainer.loggers)
    return [experiment for experiment in experiments if isinstance(experiment, SummaryWriter)]


def show(trainer: L.Trainer, figure: Figure, tag: str, file: Path) -> None:
    """Renders a figure once to a PNG file, and adds it to every tracker under the tag."""
    save(figure, file)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    step = trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [pixels], step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, pixels, key=tag, step=step)
        elif isinstance(logger, TrackioLogger):
            import trackio

            logger.log_metrics({tag: trackio.Image(pixels)}, step)


def show_table(trainer: L.Trainer, tag: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Adds a table of texts to every tracker."""
    step = trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(tag, markdown(columns, rows), step)
        elif isinstance(logger, WandbLogger):
            logger.log_table(tag, columns=list(columns), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, MLFlowLogger):
            content = {name: [row[index] for row in rows] for index, name in enumerate(columns)}
            logger.experiment.log_table(logger.run_id, content, f"{tag}/step_{step}.json")
        elif isinstance(logger, TrackioLogger):
            import trackio

            table = pd.DataFrame(rows, columns=list(columns))
            logger.log_metrics({tag: trackio.Table(dataframe=table)}, step)


def show_settings(trainer: L.Trainer, settings: Mapping[str, str | float], scores: Sequence[str]) -> None:
    """Adds the settings of a run to every tracker.

    Args:
        trainer: the trainer.
        settings: value by name.
        scores: tags of the scalars that TensorBoard shows beside the settings, logged now or later.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):  # its `log_hyperparams` would log a zero for each score
            for summary in hparams(dict(settings), dict.fromkeys(scores, 0.0)):
                logger.experiment._get_file_writer().add_summary(summary)
        else:
            logger.log_hyperparams(dict(settings))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, whose cells are shown literally."""
    lines = [columns, ["---"] * len(columns), *([markdown_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show_histogram(trainer: L.Trainer, tag: str, values: np.ndarray, edges: np.ndarray) -> None:
    """Adds a histogram to every tracker; all bins are shown, so that axes agree.

    Args:
        trainer: the trainer.
        tag: name of the histogram.
        values: numbers within the edges, (N,).
        edges: edges of the B bins, (B + 1,).
    """
    step, (counts, _) = trainer.global_step, np.histogram(values, edges)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):  # its `add_histogram` would drop empty bins at the ends
            filled = counts.astype(float)
            # TensorBoard does so too, and then widens the outermost bins that are left to `min` and `max`.
            filled[[0, -1]] = np.maximum(filled[[0, -1]], ALMOST_NONE)
            logger.experiment.add_histogram_raw(
                tag,
                min=float(edges[0]),
                max=float(edges[-1]),
                num=len(values),
                sum=float(values.sum()),
                sum_squares=float(np.square(values).sum()),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=filled.tolist(),
                global_step=step,
            )
        elif isinstance(logger, WandbLogger):
            import wandb

            logger.log_metrics({tag: wandb.Histogram(np_histogram=(counts, edges))}, step)
        elif isinstance(logger, MLFlowLogger):  # which has no histograms
            content = {"edges": edges.tolist(), "counts": counts.tolist()}
            logger.experiment.log_dict(logger.run_id, content, f"{tag}/step_{step}.json")
        elif isinstance(logger, TrackioLogger):
            import trackio

            logger.log_metrics({tag: trackio.Histogram(np_histogram=(counts, edges))}, step)


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
