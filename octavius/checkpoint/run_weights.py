"""The checkpoints in the log folder of a run: `last.ckpt`, and `best.ckpt` by the validation scores."""

import os
import shutil
from pathlib import Path
from statistics import fmean

from octavius.files import atomic_write, partial_of
from octavius.runs import history

LAST, BEST = "last.ckpt", "best.ckpt"


def keep(checkpoint: Path, folder: Path) -> None:
    """Keeps a checkpoint that was just saved in the log folder of its run.

    It becomes `last.ckpt`, and also `best.ckpt` if no earlier validation of the run had a higher mean of the headline
    scores of its sets. Both are hard links, which take no space, and which stay what they are when a later run
    replaces `checkpoints/last.ckpt`. Where the file system has no links, they are copies.

    Args:
        checkpoint: the saved file.
        folder: the log folder, with the `history.jsonl` of the run.

    Raises:
        OSError: the folder is not writable, or the disk is full.
        ValueError: the history is damaged.
    """
    means = validation_means(history.read(folder))
    for name in (LAST, BEST) if means and means[-1] == max(means) else (LAST,):
        target = folder / name
        if target.exists() and target.samefile(checkpoint):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        link = partial_of(target)
        try:
            os.link(checkpoint, link)
        except OSError:  # another file system, or one without hard links
            with atomic_write(target) as partial:
                shutil.copyfile(checkpoint, partial)
        else:
            link.replace(target)


def validation_means(scores: list[history.Measurement]) -> list[float]:
    """Mean headline score of each validation, in the order of the history."""
    values: dict[tuple[int, int], list[float]] = {}
    for score in scores:
        if score.stage == "val" and score.headline:
            values.setdefault((score.epoch, score.step), []).append(score.value)
    return [fmean(one) for one in values.values()]
