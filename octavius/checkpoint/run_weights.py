"""The checkpoints in the log folder of a run: `last.ckpt`, and `best.ckpt` by the validation scores."""

import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from octavius.files import atomic_write, partial_of
from octavius.runs import history

LAST, BEST = "last.ckpt", "best.ckpt"


def keep(checkpoint: Path, step: int, folder: Path) -> None:
    """Keeps a checkpoint that was just saved in the log folder of its run.

    It becomes `last.ckpt`, and also `best.ckpt` if it was validated and no earlier validation of the run had a higher
    mean of the headline scores of its sets. Both are hard links, which take no space, and which stay what they are
    when a later run replaces `checkpoints/last.ckpt`. Where the file system has no links, they are copies.

    Args:
        checkpoint: the saved file.
        step: its number of optimizer steps. One that was saved since the last validation is not compared.
        folder: the log folder, with the `history.jsonl` of the run.

    Raises:
        OSError: the folder is not writable, or the disk is full.
        ValueError: the history is damaged.
    """
    link(checkpoint, folder / LAST)
    means = validation_means(history.read(folder))
    if step in means and means[step] == max(means.values()):
        link(checkpoint, folder / BEST)


def link(file: Path, target: Path) -> None:
    """Replaces a file by a hard link to another, or by a copy of it."""
    if target.exists() and target.samefile(file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    new = partial_of(target)
    try:
        os.link(file, new)
    except OSError:  # another file system, or one without hard links
        with atomic_write(target) as partial:
            shutil.copyfile(file, partial)
    else:
        new.replace(target)


def validation_means(scores: Iterable[history.Measurement]) -> dict[int, float]:
    """Mean headline score of the validation after each step; one with a score that is not finite is left out."""
    values: dict[int, list[float]] = {}
    for score in scores:
        if score.stage == "val" and score.headline:
            values.setdefault(score.step, []).append(score.value)
    return {step: mean for step, found in values.items() if math.isfinite(mean := fmean(found))}
