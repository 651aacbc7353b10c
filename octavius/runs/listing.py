"""The `runs` command: lists runs with their scores, or compares some of them.

Reads `run.json`, `config.yaml` and `history.jsonl` of log folders without importing PyTorch.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from octavius.display import csv_cell, visible
from octavius.files import open_file, read_text, write_text
from octavius.options import OptionParser
from octavius.runs import facts, history
from octavius.runs.history import Measurement

SAME = ("status", "started", "ended", "host", "packages", "folder", "error", "checkpoint")
"""Facts that are not compared: they differ between any two runs, or are in the list of runs already."""

MOST_SETTINGS = 100_000
"""Largest number of values in a configuration that is compared; the largest preset has 700."""


def parser() -> OptionParser:
    """The options of the command."""
    option_parser = OptionParser(
        prog="octavius runs",
        description="List the runs in a folder with their scores, or compare the runs that are named: settings "
        "that differ, and the scores side by side.",
    )
    option_parser.add_argument(
        "runs", nargs="*", type=Path, help="log folders to compare; none lists all in --folder"
    )
    option_parser.add_argument(
        "--folder", type=Path, default=Path("runs"), help="where log folders are (default: runs)"
    )
    option_parser.add_argument(
        "--all", action="store_true", help="compare all metrics, not only the headline of each set"
    )
    option_parser.add_argument("--csv", type=Path, help="write the table to this CSV file as well")
    return option_parser


def runs(argv: Sequence[str]) -> None:
    """Prints the list or the comparison.

    Raises:
        ValueError: a folder holds no run, or one of its files is damaged.
    """
    options = parser().parse_all(argv)
    if not options.runs:
        folders = found_in(options.folder)
        if not folders:
            raise ValueError(
                f"there is no run in {options.folder.absolute()}: expected folders with {facts.FILE}, as "
                "`octavius fit` writes them; name another with --folder"
            )
        table = listing(folders, options.folder)
    else:
        folders = [folder_of(path, options.folder) for path in options.runs]
        names = short_names(folders)
        if lines := differences(folders, names):
            print(f"settings that differ\n\n{text_of(lines)}\n")
        table = scores(folders, names, options.all)
        print("scores of the last evaluation (chance)\n" if len(table) > 1 else "no evaluation was finished")
    if len(table) > 1:
        print(text_of(table))
    if options.csv is not None:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([[csv_cell(cell) for cell in row] for row in table])
        write_text(options.csv, stream.getvalue())


def found_in(folder: Path) -> list[Path]:
    """Log folders below a folder, in the order in which their runs started; those with a damaged record first."""

    def started(found: Path) -> str:
        try:
            return str(read(found)["started"])
        except ValueError:
            return ""

    folders = [Path(parent) for parent, _, names in os.walk(folder) if facts.FILE in names]
    return sorted(folders, key=lambda found: (started(found), str(found)))


def folder_of(path: Path, base: Path) -> Path:
    """The log folder that a name stands for: a path, or a path below the folder of runs.

    Raises:
        ValueError: there is none.
    """
    for folder in (path, base / path):
        if (folder / facts.FILE).is_file():
            return folder
    raise ValueError(
        f"there is no run in {path}: expected a folder with {facts.FILE}; `octavius runs` lists them"
    )


def read(folder: Path) -> dict[str, Any]:
    """The facts of a run.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / facts.FILE
    try:
        with open_file(path) as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove the folder, or the file") from None
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("started"), str)
        or not isinstance(found.get("host", {}), dict)
    ):
        raise ValueError(
            f"{path} is no record of a run: expected an object with `started` and `host`; remove it, or its folder"
        )
    return found


def listing(folders: Sequence[Path], base: Path) -> list[list[str]]:
    """One row per run: stage, start, duration, status, step, and the mean headline score of each task.

    Damaged runs have a row too, and are named in a line on standard error.
    """
    columns = ["run", "stage", "started", "took", "status", "step"]
    rows, tasks = list[list[str]](), list[str]()
    means: list[dict[str, str]] = []
    for folder in folders:
        name = folder.relative_to(base) if folder.is_relative_to(base) else folder
        try:
            found, measured = read(folder), history.last(history.read(folder))
        except ValueError as error:
            print(f"warning: {visible(str(error), 400)}", file=sys.stderr)
            rows.append([str(name), "", "", "", "damaged", ""])
            means.append({})
            continue
        status = facts.status_of(found)
        step = str(measured[-1].step if measured else found.get("step", ""))
        started = found["started"].replace("T", " ").removesuffix("+00:00")
        rows.append([str(name), str(found.get("stage")), started, took(found), status, step])
        means.append(by_task(measured))
        tasks += [task for task in means[-1] if task not in tasks]
    head = [*columns, *tasks]
    return [
        head,
        *([*row, *(mean.get(task, "") for task in tasks)] for row, mean in zip(rows, means, strict=True)),
    ]


def by_task(measured: Sequence[Measurement]) -> dict[str, str]:
    """Headline scores, averaged over the sets of each task: `task metric` to the mean."""
    values: dict[str, list[float]] = {}
    for item in measured:
        if item.headline:
            values.setdefault(f"{item.task} {item.metric}", []).append(item.value)
    return {key: f"{fmean(found):.3f}" for key, found in values.items()}


def took(found: dict[str, Any]) -> str:
    """Duration as hours:minutes:seconds; empty for a run that has not ended."""
    try:
        seconds = (
            datetime.fromisoformat(found["ended"]) - datetime.fromisoformat(found["started"])
        ).total_seconds()
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the folders' paths, as many as tell them apart."""
    paths = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, paths))):
        names = ["/".join(parts[-count:]) for parts in paths]
        if len({*names}) == len({*paths}):
            return names
    return [str(folder) for folder in folders]


def differences(folders: Sequence[Path], names: Sequence[str]) -> list[list[str]]:
    """Settings and facts that are not the same in all runs; empty if all are."""
    settings = [flat(configuration(folder)) | flat(compared(read(folder))) for folder in folders]
    keys = dict.fromkeys(key for found in settings for key in found)
    rows = []
    for key in keys:
        values = [found.get(key, "-") for found in settings]
        if len({*values}) > 1:
            rows.append([key, *values])
    return [["", *names], *rows] if rows else []


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run that are compared, with the versions of packages."""
    return {"run": {key: value for key, value in found.items() if key not in SAME}} | {
        "packages": found.get("packages", {})
    }


def configuration(folder: Path) -> dict[str, Any]:
    """The configuration of a run; empty without one."""
    import yaml  # late, for the help of other commands imports this module

    try:
        found = yaml.safe_load(read_text(folder / facts.CONFIG))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / facts.CONFIG} cannot be read: {error}") from None
    left, waiting = MOST_SETTINGS, [found]
    while waiting:  # aliases of YAML can hold themselves, or stand for any number of values
        part, left = waiting.pop(), left - 1
        if left < 0:
            raise ValueError(
                f"{folder / facts.CONFIG} cannot be read: it holds more than {MOST_SETTINGS:,} values"
            )
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return found if isinstance(found, dict) else {}


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted key, as text."""
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, part in value.items():
            found |= flat(part, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        found = {}
        for index, part in enumerate(value):
            found |= flat(part, f"{prefix}[{index}]")
        return found
    return {prefix: visible(str(value), 60)}


def scores(folders: Sequence[Path], names: Sequence[str], everything: bool) -> list[list[str]]:
    """One row per set and metric, one column per run: its score at the last evaluation, and chance."""
    tables = []
    for folder in folders:
        measured = history.last(history.read(folder))
        tables.append({(item.set, item.metric): item for item in measured if everything or item.headline})
    rows = dict.fromkeys(key for table in tables for key in table)
    head = ["set", "metric", *names]
    return [head, *([*key, *(cell(table.get(key)) for table in tables)] for key in rows)]


def cell(item: Measurement | None) -> str:
    """A score with its interval and chance."""
    if item is None:
        return "-"
    interval = "" if item.low is None or item.high is None else f" [{item.low:.2f}, {item.high:.2f}]"
    return f"{item.value:.3f}{interval}" + ("" if item.chance is None else f" ({item.chance:.2f})")


def text_of(table: Sequence[Sequence[str]]) -> str:
    """A table as text with aligned columns."""
    cells = [[visible(cell, 60) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
