"""Figures of a comparison, a panel for each primary score: a bar for each arm, or curves over arms."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from octavius.callbacks.board import legend_label, save
from octavius.compare.table import Result, by_arm, primary, values
from octavius.display import COLOURS
from octavius.evaluation.scores import BLIND_CEILING

ACROSS, PANEL, HEAD = 4, (2.9, 2.2), 0.3
"""Panels per row; their width and height, and the height of a line of the legend, in inches."""


def draw(results: Sequence[Result], arms: Sequence[str], file: Path) -> None:
    """Draws the bars: means, with standard deviations over seeds as error bars and single seeds as dots.

    A dashed line is the blind ceiling, if all arms have the same.

    Args:
        results: all runs.
        arms: arms in the order of the bars; an arm that was not tested on a set has no bar there.
        file: the PNG file.
    """
    tables = by_arm(values(results))
    panels = primary(tables[arms[0]].index)
    across = min(ACROSS, max(1, len(panels)))
    down, lines = max(1, math.ceil(len(panels) / across)), math.ceil(len(arms) / across)
    height = PANEL[1] * down + HEAD * (lines + 1)
    figure = Figure(figsize=(PANEL[0] * across, height), dpi=120, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for panel, row in zip(axes, panels, strict=False):
        _bars(panel, [tables[arm].reindex([row]).to_numpy(dtype=float)[0] for arm in arms])
        panel.set_title(" ".join(row), fontsize=9)
        ceilings = {_ceiling(tables[arm], row[0]) for arm in arms}
        if len(ceilings) == 1 and (ceiling := ceilings.pop()) is not None:
            panel.axhline(ceiling, color="black", linewidth=0.8, linestyle="--")
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    keys = [Patch(color=_colour(index), label=legend_label(arm)) for index, arm in enumerate(arms)]
    figure.legend(handles=keys, loc="outside upper center", ncols=across, frameon=False, fontsize=9)
    save(figure, file)


def draw_curves(
    results: Sequence[Result], curves: Mapping[str, Mapping[str, Mapping[float, str]]], file: Path
) -> None:
    """Draws the scores of arms over a number that they differ in, such as that of the tasks.

    Points are means, error bars standard deviations over seeds; a dashed line is the blind ceiling.

    Args:
        results: all runs.
        curves: label of an x axis to the curves over it, each by its name: x to arm. Each axis has its own row.
        file: the PNG file.
    """
    tables = by_arm(values(results))
    panels = {
        label: primary(tables[arm].index)
        for label, named in curves.items()
        for arm in [next(iter(next(iter(named.values())).values()))]
    }
    across = max(len(rows) for rows in panels.values())
    size = (PANEL[0] * across * 1.15, PANEL[1] * 1.2 * len(panels) + 2 * HEAD)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    grid = figure.subplots(len(panels), across, squeeze=False)
    for axes, (label, rows) in zip(grid, panels.items(), strict=True):
        for panel, row in zip(axes, rows, strict=False):
            for index, (name, points) in enumerate(curves[label].items()):
                _curve(panel, tables, points, row, _colour(index), name)
            ceilings = {
                x: found
                for points in curves[label].values()
                for x, arm in points.items()
                if (found := _ceiling(tables[arm], row[0])) is not None
            }
            if ceilings:
                xs = sorted(ceilings)
                panel.plot(xs, [ceilings[x] for x in xs], "k--", linewidth=0.8, label="blind ceiling")
            ticks = sorted({x for points in curves[label].values() for x in points})
            if min(ticks) > 0:
                panel.set_xscale("log", base=2)
            panel.set_xticks(ticks, [f"{x:g}" for x in ticks], minor=False)
            panel.set_ylim(bottom=0)
            panel.set(title=" ".join(row), xlabel=label)
            panel.title.set_fontsize(9)
            panel.tick_params(labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in axes[len(rows) :]:
            panel.set_axis_off()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        map(legend_label, labels),
        loc="outside upper center",
        ncols=across,
        frameon=False,
        fontsize=9,
    )
    save(figure, file)


def _curve(
    panel: Axes,
    tables: Mapping[str, pd.DataFrame],
    points: Mapping[float, str],
    row: tuple[str, str],
    colour: str,
    name: str,
) -> None:
    """Draws one curve, with a dot for each seed."""
    scores = {x: tables[arm].reindex([row]).to_numpy(dtype=float)[0] for x, arm in sorted(points.items())}
    scores = {x: own[~np.isnan(own)] for x, own in scores.items() if not np.isnan(own).all()}
    means = [own.mean() for own in scores.values()]
    spread = [own.std(ddof=1) if len(own) > 1 else 0.0 for own in scores.values()]
    panel.errorbar([*scores], means, spread, color=colour, capsize=3, marker="o", markersize=4, label=name)
    for x, own in scores.items():
        panel.scatter([x] * len(own), own, s=6, color=colour, alpha=0.6)


def _ceiling(table: pd.DataFrame, name: str) -> float | None:
    """The blind ceiling of an evaluation set in an arm's table, the same for all seeds; None without one."""
    rows = [row for row in table.index if row == (name, BLIND_CEILING)]
    found = table.loc[rows].to_numpy(dtype=float)
    return None if not found.size or np.isnan(found).all() else float(np.nanmean(found))


def _bars(panel: Axes, arms: Sequence[np.ndarray]) -> None:
    """Draws one panel from the scores (seeds,) of each arm; nan where it was not tested."""
    for index, all_seeds in enumerate(arms):
        scores = all_seeds[~np.isnan(all_seeds)]
        if not len(scores):
            continue
        spread = scores.std(ddof=1) if len(scores) > 1 else None
        panel.bar(index, scores.mean(), 0.8, yerr=spread, color=_colour(index), alpha=0.75, capsize=3)
        offsets = np.linspace(-0.15, 0.15, len(scores)) if len(scores) > 1 else [0.0]
        panel.scatter(index + np.asarray(offsets), scores, s=9, color="black", zorder=3)
    panel.set_xticks([])
    panel.set_xlim(-0.6, len(arms) - 0.4)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
