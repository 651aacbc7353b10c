"""Tables of a comparison: means, standard deviations, paired differences and the paper's relative average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from octavius.display import csv_cell, table_cell
from octavius.files import write_text
from octavius.metrics.reporting import averaged
from octavius.tasks import TASKS

PRIMARY = frozenset(
    key
    for task in TASKS.values()
    for protocol in task.protocols
    for metric in task.metrics(protocol)
    for key in averaged(metric)
)
"""Metrics that enter the relative average, one per set.

With them the paper's Tables 1 and 2 reproduce its 20.9 % and 17.1 %.
"""

NONE = "-"
"""Cell of an arm that was not tested on a set."""


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        arm: the variant.
        seed: the seed.
        scores: set to metric to value.
        facts: other values: parameters, time, memory, routing.
    """

    arm: str
    seed: int
    scores: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, float]


def write_tables(
    results: Sequence[Result], arms: Sequence[str], differences: Sequence[tuple[str, str]], path: Path
) -> str:
    """Writes every value as CSV and the summary as Markdown.

    Args:
        results: all runs.
        arms: arms in the order of the tables.
        differences: pairs of arms, the second subtracted from the first.
        path: path of the two files without suffix.

    Returns:
        The summary.
    """
    long = values(results)
    write_text(path.with_name(f"{path.name}.csv"), long.map(csv_cell).to_csv(index=False))
    texts = [markdown(overview(long, arms, differences)), markdown(summary(long, arms, differences))]
    text = "\n\n".join(texts)
    write_text(path.with_name(f"{path.name}.md"), text + "\n")
    return text


def values(results: Sequence[Result]) -> pd.DataFrame:
    """One row per run, set and metric: arm, seed, set, metric, value."""
    rows = []
    for run in results:
        head = {"arm": run.arm, "seed": run.seed}
        for name, metrics in run.scores.items():
            rows += [head | {"set": name, "metric": key, "value": value} for key, value in metrics.items()]
        rows += [head | {"set": "", "metric": key, "value": value} for key, value in run.facts.items()]
    return pd.DataFrame(rows)


def overview(long: pd.DataFrame, arms: Sequence[str], differences: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """A table like the paper's: arms and differences as rows, the primary score of each set as columns."""
    full = summary(long, arms, differences)
    wanted = [(name, metric) for name, metric in primary(full.index)] + [
        row for row in full.index if not row[0]
    ]
    short = full.loc[wanted].T
    short.columns = pd.Index([" ".join(part for part in row if part) for row in wanted])
    short.index.name = ""
    return short


def summary(long: pd.DataFrame, arms: Sequence[str], differences: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """One row per set and metric: `mean ± std` of each arm, and of the paired differences.

    The standard deviation is over the seeds (n - 1). Differences are taken seed by seed, which cancels
    effects of the seed common to all arms. `-` marks sets on which an arm was not tested. The last row is the
    paper's relative average, in percent: how much larger the mean primary score of the first arm of a
    difference is than that of the second.
    """
    runs = by_arm(long)
    cells = {arm: _spread(runs[arm]) for arm in arms}
    change = pd.DataFrame(index=["relative average / %"])
    for one, other in differences:
        cells[f"{one} - {other}"] = _spread(runs[one] - runs[other], sign=True)
        relative = relative_average(runs[one], runs[other]).to_frame(change.index[0]).T
        change[f"{one} - {other}"] = _spread(relative, sign=True)
    table = pd.DataFrame(cells)
    table.index.names = ["set", "metric"]
    last = ("", change.index[0])
    table.loc[last, :] = ""
    for pair in change:
        table.loc[last, pair] = change[pair].iloc[0]
    return table


def by_arm(long: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each arm a table of sets and metrics by seed; with the same rows for all arms, facts last."""
    pairs = dict.fromkeys(zip(long["set"], long["metric"], strict=True))
    rows = pd.MultiIndex.from_tuples(sorted(pairs, key=lambda pair: pair[0] == ""), names=["set", "metric"])
    return {
        str(arm): part.pivot(index=["set", "metric"], columns="seed", values="value").reindex(rows)
        for arm, part in long.groupby("arm")
    }


def relative_average(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """100 * (mean primary score of one arm / that of the other - 1) by seed, over sets that both have.

    Args:
        one: scores, a row per set and metric, a column per seed.
        other: scores of the other arm, with the same rows.
    """
    have = (one.notna().all(axis=1) & other.notna().all(axis=1)).to_dict()
    shared = [row for row in primary(one.index) if have[row]]
    below = other.reindex(shared).mean()
    return 100 * (one.reindex(shared).mean() / below.where(below > 0) - 1)


def primary(index: pd.Index) -> list[tuple[str, str]]:
    """The rows that are averaged: the primary score of each set, without the groups within it."""
    names = set(index.get_level_values("set")) - {""}
    # Groups of a set (`held_out/vqa/count`) are already part of it.
    whole = {name for name in names if not any(name.startswith(f"{other}/") for other in names)}
    return [(name, metric) for name, metric in index if name in whole and metric in PRIMARY]


def _spread(runs: pd.DataFrame, sign: bool = False) -> pd.Series:
    """`mean ± std` of each row, with a number of decimals that fits its size."""
    form = "+" if sign else ""

    def cell(mean: float, deviation: float) -> str:
        if pd.isna(mean):
            return NONE
        decimals = 0 if abs(mean) >= 1000 else 1 if abs(mean) >= 10 else 3
        both = f"{mean:{form}.{decimals}f}"
        return both if pd.isna(deviation) else f"{both} ± {deviation:.{decimals}f}"

    pairs = zip(runs.mean(axis=1), runs.std(axis=1, ddof=1), strict=True)
    return pd.Series([cell(*pair) for pair in pairs], index=runs.index)


def markdown(table: pd.DataFrame) -> str:
    """A table with its index columns as Markdown."""
    heads = [table_cell(str(name)) for name in (*table.index.names, *table.columns)]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for index, row in zip(table.index, table.to_numpy(), strict=True):
        cells = [*(index if isinstance(index, tuple) else (index,)), *row]
        lines.append(f"| {' | '.join(map(table_cell, cells))} |")
    return "\n".join(lines)
