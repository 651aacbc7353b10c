"""`history.jsonl` of a log folder: every score of every evaluation, one line of JSON each."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from octavius.files import read_text

FILE = "history.jsonl"

LARGEST = 1e300
"""Largest number that is shown; means of larger ones overflow."""


@dataclass(frozen=True)
class Measurement:
    """One score.

    Attributes:
        stage: val or test.
        epoch: epoch of the model, from 1; that of the checkpoint in an evaluation without training.
        step: optimizer steps of the model.
        set: evaluation set, with its group if it has any (`set/group`).
        task: task of the set.
        protocol: protocol under which the answers were scored.
        metric: key of the score.
        headline: whether sets of this task are compared by this metric.
        samples: number of samples.
        value: the score.
        chance: the score if each sample gets the true answer of another; None where that is not defined.
        low: lower end of the 95 % interval; None if none was computed.
        high: upper end of it.
    """

    stage: str
    epoch: int
    step: int
    set: str
    task: str
    protocol: str
    metric: str
    headline: bool
    samples: int
    value: float
    chance: float | None = None
    low: float | None = None
    high: float | None = None


def append(folder: Path, measurements: Iterable[Measurement]) -> None:
    """Appends scores to the history of a log folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(item)) + "\n" for item in measurements)


def read(folder: Path) -> list[Measurement]:
    """The history of a log folder; empty without one. A last line that a crash left incomplete is ignored.

    Raises:
        ValueError: it cannot be read, or another line is damaged.
    """
    try:
        lines = read_text(folder / FILE).split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / FILE} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line break is empty or incomplete
        try:
            found.append(_checked(Measurement(**json.loads(line))))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{folder / FILE}, line {number}: expected a score as Octavius writes it ({error}); remove the line"
            ) from None
    return found


def _checked(item: Measurement) -> Measurement:
    """The same measurement, after its values were checked to be of their types.

    Raises:
        TypeError: one is not.
    """
    optional = [value for value in (item.chance, item.low, item.high) if value is not None]
    kinds: tuple[tuple[type | tuple[type, ...], Sequence[object]], ...] = (
        (str, (item.stage, item.set, item.task, item.protocol, item.metric)),
        (int, (item.epoch, item.step, item.samples)),
        ((int, float), (item.value, *optional)),
    )
    for kind, values in kinds:
        for value in values:
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TypeError(f"{value!r:.60} is of the wrong type")
            if isinstance(value, int | float) and abs(value) > LARGEST:
                raise TypeError(f"{value!s:.60} is too large")
    return item


def last(history: Sequence[Measurement]) -> list[Measurement]:
    """The scores of the last evaluation; of a test if there is one."""
    tests = [item for item in history if item.stage == "test"] or history
    return [item for item in tests if (item.epoch, item.step) == (tests[-1].epoch, tests[-1].step)]
