"""Figure of a comparison: a panel for each primary score, a bar for each arm."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from octavius.callbacks.board import COLOURS, legend_label, save
from octavius.compare.table import Result, by_arm, primary, values

ACROSS, PANEL, HEAD = 4, (2.9, 2.2), 0.3
"""Panels per row, their width and height, and the height of a line of the legend, in inches."""


def draw(results: Sequence[Result], arms: Sequence[str], file: Path) -> None:
    """Draws the figure: bars are means, error bars standard deviations over seeds, dots single seeds.

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
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    keys = [Patch(color=_colour(index), label=legend_label(arm)) for index, arm in enumerate(arms)]
    figure.legend(handles=keys, loc="outside upper center", ncols=across, frameon=False, fontsize=9)
    save(figure, file)


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
