"""Summaries agree with the `statistics` module and the tables of the paper."""

import math
import statistics
from pathlib import Path

import pandas as pd
import pytest

from octavius.compare.table import Result, by_arm, overview, relative_average, summary, values, write_tables

PAPER = {  # Tables 1 and 2: without experts, with experts, the printed improvement in percent
    "images": (
        {"det": (7.61, 39.04), "vqa": (40.31, 46.95), "cap": (0.21, 5.66), "cls": (73.50, 65.40)}
        | {"hair": (58.04, 60.93), "smile": (50.15, 59.82)},
        20.89,
    ),
    "points": ({"cls": (19.75, 24.85), "cap": (16.19, 17.22)}, 17.06),
}
PAIR = [("moe", "plain")]
METRICS = {"det": "recall50", "cap": "cider"}


def run(arm: str, seed: int, **scores: float) -> Result:
    return Result(arm, seed, {"q": scores}, {"trainable parameters": 100, "training time / min": 1.0})


@pytest.mark.parametrize("table", PAPER)
def test_the_average_is_the_papers(table: str) -> None:
    scores, printed = PAPER[table]
    other = {"recall50": "precision50", "cider": "bleu1"}  # in the paper's tables, not in its averages
    runs = []
    for index, arm in enumerate(("plain", "moe")):
        found = {
            name: {METRICS.get(name, "acc1"): pair[index]}
            | ({other[METRICS[name]]: 1 + 90.0 * index} if name in METRICS else {})
            for name, pair in scores.items()
        }
        runs.append(Result(arm, 0, found, {}))
    tables = by_arm(values(runs))
    assert relative_average(tables["moe"], tables["plain"])[0] == pytest.approx(printed, abs=0.02)


def test_groups_of_a_set_are_not_averaged_twice() -> None:
    runs = [
        Result(arm, 0, {"a/q": {"acc1": score}, "a/q/count": {"acc1": 0.9}, "b": {"cider": 2.0}}, {})
        for arm, score in (("plain", 0.5), ("moe", 1.0))
    ]
    tables = by_arm(values(runs))
    assert relative_average(tables["moe"], tables["plain"])[0] == pytest.approx(100 * (3.0 / 2.5 - 1))


def test_means_spreads_and_paired_differences() -> None:
    plain, moe = [0.50, 0.60, 0.40], [0.55, 0.64, 0.48]
    runs = [run("plain", seed, acc1=score) for seed, score in enumerate(plain)]
    runs += [run("moe", seed, acc1=score) for seed, score in enumerate(moe)]
    table = summary(values(runs), ["plain", "moe"], PAIR)
    assert table.columns.tolist() == ["plain", "moe", "moe - plain"]
    row = table.loc[("q", "acc1")]
    gaps = [two - one for one, two in zip(plain, moe, strict=True)]
    for cell, numbers in zip(row, (plain, moe, gaps), strict=True):
        mean, deviation = (float(part) for part in cell.split(" ± "))
        assert mean == pytest.approx(statistics.mean(numbers), abs=5e-4)
        assert deviation == pytest.approx(statistics.stdev(numbers), abs=5e-4)
    assert row["moe - plain"].startswith("+0.057")
    average = [100 * (two / one - 1) for one, two in zip(plain, moe, strict=True)]
    said = table.loc[("", "relative average / %"), "moe - plain"].split(" ± ")
    assert float(said[0]) == pytest.approx(statistics.mean(average), abs=0.06)
    assert float(said[1]) == pytest.approx(statistics.stdev(average), abs=0.06)


def test_one_seed_has_no_spread() -> None:
    table = summary(values([run("plain", 0, acc1=0.5), run("moe", 0, acc1=0.25)]), ["plain", "moe"], PAIR)
    assert table.loc[("q", "acc1")].tolist() == ["0.500", "0.250", "-0.250"]


def test_arms_without_a_difference_have_a_table_too(tmp_path: Path) -> None:
    text = write_tables([run("plain", 0, acc1=0.5)], ["plain"], [], tmp_path / "t")
    assert "| plain | 0.500 | 100.0 | 1.000 |  |" in text


def test_files_hold_every_value(tmp_path: Path) -> None:
    runs = [run(arm, seed, acc1=0.1 * seed) for arm in ("plain", "moe") for seed in (1, 2)]
    text = write_tables(runs, ["plain", "moe"], PAIR, tmp_path / "t")
    assert (tmp_path / "t.md").read_text() == text + "\n"
    kept = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert kept.columns.tolist() == ["arm", "seed", "set", "metric", "value"]
    assert len(kept) == 4 * 3
    [value] = kept.query("arm == 'moe' and seed == 2 and metric == 'acc1'")["value"]
    assert math.isclose(value, 0.2)
    for table in text.split("\n\n"):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| q | acc1 | 0.150 ± 0.071 |" in text
    assert "|  | trainable parameters | 100.0 ± 0.0 |" in text


def test_arms_that_were_not_tested_on_a_set_are_compared_on_the_others() -> None:
    both = {"a": {"acc1": 0.5, "loss": 9.0}, "b": {"cider": 2.0}}
    runs = [
        Result("joint", 0, both, {}),
        Result("first", 0, {"a": {"acc1": 0.4, "loss": 1.0}}, {}),
        Result("second", 0, {"b": {"cider": 1.0}}, {"GPU memory / GiB": 3.0}),
    ]
    arms, pairs = ["joint", "first", "second"], [("joint", "first"), ("joint", "second")]
    table = summary(values(runs), arms, pairs)
    assert table.loc[("b", "cider")].tolist() == ["2.000", "-", "1.000", "-", "+1.000"]
    assert table.loc[("", "GPU memory / GiB")].tolist() == ["-", "-", "3.000", "-", "-"]
    assert table.loc[("", "relative average / %")].tolist() == ["", "", "", "+25.0", "+100.0"]
    short = overview(values(runs), arms, pairs)
    assert short.index.tolist() == [*arms, "joint - first", "joint - second"]
    assert short.columns[:2].tolist() == ["a acc1", "b cider"]
    assert short["a acc1"].tolist() == ["0.500", "0.400", "-", "+0.100", "-"]
    assert short.columns[-1] == "relative average / %"
