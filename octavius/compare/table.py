"""Scores of runs come in; means, spreads, paired differences and the paper's average go out as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PRIMARY = ("recall50", "acc1", "cider")
"""One score a set is averaged: with these the paper's Tables 1 and 2 give its 20.9 % and 17.1 %."""


@dataclass(frozen=True)
class Result:
    """One run that is done.

    Attributes:
        arm: which variant.
        seed: which seed.
        scores: set to metric to value.
        trained: trainable parameters.
        seconds: of training, evaluations in it included.
        memory: most that the training process held, in GiB of main memory.
    """

    arm: str
    seed: int
    scores: dict[str, dict[str, float]]
    trained: int
    seconds: float
    memory: float


def write_tables(results: Sequence[Result], baseline: str, out: Path) -> str:
    """Writes `compare.csv` (every value) and `compare.md` (the summary), and gives the summary."""
    long = values(results)
    long.to_csv(out / "compare.csv", index=False)
    text = markdown(summary(long, baseline))
    (out / "compare.md").write_text(text + "\n")
    return text


def values(results: Sequence[Result]) -> pd.DataFrame:
    """One row a run, set and metric: arm, seed, set, metric, value."""
    rows = []
    for run in results:
        head = {"arm": run.arm, "seed": run.seed}
        for name, metrics in run.scores.items():
            rows += [head | {"set": name, "metric": key, "value": value} for key, value in metrics.items()]
        costs = {
            "trainable parameters": run.trained,
            "training time / min": run.seconds / 60,
            "memory / GiB": run.memory,
        }
        rows += [head | {"set": "", "metric": key, "value": value} for key, value in costs.items()]
    return pd.DataFrame(rows)


def summary(long: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """One row a set and metric: `mean ± spread` of each arm, and of its paired difference to the baseline.

    The spread is the standard deviation over the seeds (n - 1). A difference is taken seed by seed, so that
    what a seed does to all arms falls out. The last row is the paper's: how much larger an arm's mean of the
    primary scores is than the baseline's, in percent.
    """
    wide = long.pivot_table(index=["set", "metric"], columns=["arm", "seed"], values="value", sort=False)
    arms = list(dict.fromkeys(long["arm"]))
    others = [arm for arm in arms if arm != baseline]
    cells: dict[str, pd.Series] = {}
    for arm in (baseline, *others):
        cells[arm] = _spread(wide[arm])
    for arm in others:
        cells[f"{arm} - {baseline}"] = _spread(wide[arm] - wide[baseline], sign=True)
    table = pd.DataFrame(cells)
    change = relative_average(wide, baseline, others)
    table.loc[("", "relative average / %"), :] = ""
    for arm in others:
        table.loc[("", "relative average / %"), f"{arm} - {baseline}"] = _spread(
            change[[arm]].T, sign=True
        ).iloc[0]
    return table


def relative_average(wide: pd.DataFrame, baseline: str, arms: Sequence[str]) -> pd.DataFrame:
    """Seed by arm: 100 * (mean primary score of the arm / that of the baseline - 1), over whole sets."""
    sets = wide.index.get_level_values("set")
    whole = [name in PRIMARY for name in wide.index.get_level_values("metric")]
    # A group of a set (`held_out/vqa/count`) is counted in its set already.
    whole_sets = {
        name for name in sets if not any(name.startswith(f"{other}/") for other in set(sets) if other)
    }
    means = wide[[row and name in whole_sets for row, name in zip(whole, sets, strict=True)]].mean()
    return pd.DataFrame({arm: 100 * (means[arm] / means[baseline] - 1) for arm in arms})


def _spread(runs: pd.DataFrame, sign: bool = False) -> pd.Series:
    """`mean ± standard deviation` of each row, with as many decimals as its size deserves."""
    form = "+" if sign else ""

    def cell(mean: float, deviation: float) -> str:
        decimals = 0 if abs(mean) >= 1000 else 1 if abs(mean) >= 10 else 3
        both = f"{mean:{form}.{decimals}f}"
        return both if pd.isna(deviation) else f"{both} ± {deviation:.{decimals}f}"

    pairs = zip(runs.mean(axis=1), runs.std(axis=1, ddof=1), strict=True)
    return pd.Series([cell(*pair) for pair in pairs], index=runs.index)


def markdown(table: pd.DataFrame) -> str:
    """A table with its two index columns, as Markdown."""
    lines = ["| set | metric | " + " | ".join(table.columns) + " |"]
    lines.append("|" + " --- |" * (2 + len(table.columns)))
    lines += [
        f"| {' | '.join([*index, *row])} |" for index, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n".join(lines)
