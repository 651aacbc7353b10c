"""Predictions of other programs on a benchmark, checked to be those of its samples."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.benchmarks import BENCHMARKS
from datamodules.benchmarks.answers import Asked, Submission
from datamodules.benchmarks.base import BadItemError
from datamodules.benchmarks.values import shown
from datamodules.sources import Source
from octavius.instruction.sample import Sample

SHOWN = 3
"""Number of ids that an error lists."""


def read_submission(path: Path, source: Source, folder: Path, samples: Sequence[Sample]) -> Submission:
    """Reads predictions and checks that they are those of the samples.

    Args:
        path: the file, or the folder, in the format of the benchmark.
        source: the benchmark.
        folder: folder of the data set.
        samples: the samples of the benchmark's split.

    Raises:
        ValueError: the file is malformed, or ids are missing, unknown, or stand twice.
    """
    if not path.exists():
        raise ValueError(f"there are no predictions at {path.absolute()}")
    asked = Asked(folder, source.split, {sample.id: sample for sample in samples})
    try:
        found = BENCHMARKS[source.benchmark].answers(path, asked)
    except BadItemError as error:
        raise ValueError(f"{path}: {error}") from None
    unknown = [key for key in found.answers if key not in asked.samples and key not in found.unscored]
    if unknown:
        raise ValueError(
            f"{path}: {_some(unknown)} not among the {len(samples)} samples of {source.title}, split "
            f"{source.split}; are they of another split?"
        )
    missing = [key for key in asked.samples if key not in found.answers]
    if missing and not found.partial:
        raise ValueError(
            f"{path}: {len(found.answers)} answers, but {_some(missing)} missing of {len(samples)} samples of "
            f"{source.title}, split {source.split}; answer each, by an empty text if need be"
        )
    return found


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{', '.join(map(shown, keys[:SHOWN]))}{more} {'is' if len(keys) == 1 else 'are'}"
