"""The paper's tables with our scores next to its own, as Markdown, CSV and JSON."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from octavius.display import csv_cell, json_text, table_cell
from octavius.evaluation.answers import Answered
from octavius.evaluation.predictions import under
from octavius.evaluation.scores import NOTES, limits, score_set, set_intervals
from octavius.files import atomic_write, write_text
from octavius.instruction.sample import References
from octavius.report.paper import LAMM, PAPER, SOURCE, TABLES, Column, row_and_benchmark
from octavius.tasks import TASKS

LIKELIHOOD = "acc1_likelihood"

OURS = "this checkpoint"
STANDING_IN = "this checkpoint, on sets of its own that stand in for the benchmarks"

Cell: TypeAlias = tuple[float, tuple[float, float] | None] | None
"""A score and its 95 % interval, if there is one; None for an empty cell."""


@dataclass(frozen=True)
class Score:
    """All scores of one set under one protocol.

    Attributes:
        name: name of the set.
        task: task of its samples.
        protocol: the protocol.
        samples: number of samples.
        values: metric to value, in the metric's own scale.
        intervals: metric to its 95 % bootstrap interval over images or scenes.
    """

    name: str
    task: str
    protocol: str
    samples: int
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def score_all(name: str, items: Sequence[Answered], protocol: str | None = None) -> list[Score]:
    """Scores one set's answers to one task under a protocol, or under all that apply.

    Raises:
        ValueError: the protocol cannot score them.
    """
    task = TASKS[items[0].sample.task]
    golds = [item.sample.gold for item in items]
    scenes = all(gold.scene for gold in golds if isinstance(gold, References))
    known = [one for one in task.protocols if one != "published" or scenes or not task.scored_by_scene]
    found = []
    for one in known if protocol is None else [protocol]:
        read = under(items, one)
        found.append(
            Score(name, task.name, one, len(items), score_set(read) | limits(read), set_intervals(read))
        )
    return found


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, the source of its scores, and cells in the order of the table's columns."""

    name: str
    source: str
    cells: tuple[Cell, ...]


def paper_tables(scores: Sequence[Score]) -> dict[str, list[Row]]:
    """The tables of the paper for which we have a score, with our rows first and the paper's below."""
    found = {}
    for title, columns in TABLES.items():
        rows = [row for row in _our_rows(scores, columns) if any(row.cells)]
        if rows:
            printed = PAPER[title].items()
            rows += [
                Row(name, SOURCE, tuple(v if v is None else (v, None) for v in cells))
                for name, cells in printed
            ]
            found[title] = rows
    return found


def _our_rows(scores: Sequence[Score], columns: Sequence[Column]) -> Iterator[Row]:
    parts = dict.fromkeys(row_and_benchmark(one.name, one.task)[0] for one in scores)
    for part in parts:
        who = OURS if part in ("", LAMM) else STANDING_IN
        found = [(*row_and_benchmark(one.name, one.task), one) for one in scores]
        mine = {(benchmark, one.protocol): one for row, benchmark, one in found if row == part}
        for protocol in ("published", "standard"):
            cells = tuple(_cell(mine.get((column.benchmark, protocol)), column.keys) for column in columns)
            yield Row(", ".join(filter(None, (part, protocol))), who, cells)
        cells = tuple(_cell(mine.get((column.benchmark, "standard")), (LIKELIHOOD,)) for column in columns)
        yield Row(", ".join(filter(None, (part, "by likelihood"))), who, cells)


def _cell(score: Score | None, keys: Sequence[str]) -> Cell:
    key = None if score is None else next((key for key in keys if key in score.values), None)
    if score is None or key is None:
        return None
    low_high = score.intervals.get(key)
    return 100 * score.values[key], None if low_high is None else (100 * low_high[0], 100 * low_high[1])


def markdown(scores: Sequence[Score]) -> str:
    """The tables of the paper as Markdown, followed by all scores in their own scale."""
    parts = []
    for title, rows in paper_tables(scores).items():
        head = ["row", "source", *(column.heading for column in TABLES[title])]
        body = [[row.name, row.source, *map(_shown, row.cells)] for row in rows]
        parts.append(f"## {title}\n\n{_grid(head, body)}")
    note = (
        "Figures times 100, as the paper prints them; in brackets the 95 % interval by bootstrap over images or "
        f"scenes. Rows of the source `{SOURCE.partition(':')[0]}` are what the paper reports, of another model and "
        "other data: they are no score of this checkpoint."
    )
    body = [
        [one.name, one.protocol, str(one.samples), key, f"{value:.4f}", _between(one.intervals.get(key))]
        for one in scores
        for key, value in one.values.items()
    ]
    every = _grid(["set", "protocol", "samples", "metric", "score", "95 % interval"], body)
    known = {key for one in scores for key in one.values}
    below = [text for key, text in NOTES.items() if key in known]
    return "\n\n".join([*parts, *([note] if parts else []), f"## All scores\n\n{every}", *below]) + "\n"


def write_tables(
    scores: Sequence[Score],
    folder: Path,
    stem: str,
    controls: tuple[str, Sequence[Sequence[str]]] = ("", ()),
) -> str:
    """Writes `<stem>.md`, `<stem>.json`, `<stem>.csv` (the paper's tables) and `<stem>_scores.csv` (all scores).

    Args:
        scores: scores of all sets.
        folder: folder to write to.
        stem: prefix of the file names.
        controls: text above the table of blind controls, and its header and rows.

    Returns:
        The Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(scores)
    if said := list(controls[1]):
        text += f"\n## Blind controls\n\n{controls[0]}\n\n{_grid(said[0], said[1:])}\n"
    write_text(folder / f"{stem}.md", text)
    tables = paper_tables(scores)
    whole: dict[str, Any] = {"scores": [asdict(one) for one in scores], "tables": {}}
    for title, rows in tables.items():
        headings = [column.heading for column in TABLES[title]]
        whole["tables"][title] = [
            {"row": row.name, "source": row.source, **dict(zip(headings, map(_json, row.cells), strict=True))}
            for row in rows
        ]
    write_text(folder / f"{stem}.json", json_text(whole, indent=1))
    for name, lines in ((f"{stem}.csv", _paper_lines(tables)), (f"{stem}_scores.csv", _score_lines(scores))):
        with atomic_write(folder / name) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(map(csv_cell, line) for line in lines)
    return text


def _paper_lines(tables: dict[str, list[Row]]) -> Iterator[list[object]]:
    """One CSV line per row, with low and high next to each score; the union of the columns of all tables."""
    headings = list(dict.fromkeys(column.heading for title in tables for column in TABLES[title]))
    yield ["table", "row", "source", *(f"{name}{end}" for name in headings for end in ("", " low", " high"))]
    for title, rows in tables.items():
        indices = {column.heading: number for number, column in enumerate(TABLES[title])}
        for row in rows:
            cells = [row.cells[indices[name]] if name in indices else None for name in headings]
            yield [title, row.name, row.source, *(part for cell in cells for part in _three(cell))]


def _score_lines(scores: Sequence[Score]) -> Iterator[list[object]]:
    yield ["set", "task", "protocol", "samples", "metric", "score", "low", "high"]
    for one in scores:
        for key, value in one.values.items():
            low, high = one.intervals.get(key, ("", ""))
            yield [one.name, one.task, one.protocol, one.samples, key, value, low, high]


def _three(cell: Cell) -> tuple[object, object, object]:
    return ("", "", "") if cell is None else (cell[0], *(cell[1] or ("", "")))


def _json(cell: Cell) -> dict[str, Any] | None:
    return None if cell is None else {"score": cell[0], "interval": cell[1]}


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    between = "" if cell[1] is None else f" [{cell[1][0]:.1f}, {cell[1][1]:.1f}]"
    return f"{cell[0]:.2f}{between}"


def _between(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.4f} to {pair[1]:.4f}"


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(map(table_cell, line))} |" for line in lines)
