"""Figure drawn by `octavius interference`: gradient conflicts between tasks, and use of the experts."""

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octavius.display import COLOURS
from octavius.interference.gradients import conflicting


def draw(
    gradients: pd.DataFrame,
    routing: pd.DataFrame,
    ablations: pd.DataFrame,
    similarity: pd.DataFrame,
    title: str,
) -> Figure:
    """Gradient cosines, conflicts by layer, routing, loss change per ablated expert, and similarity of experts.

    Panels without data are left out: a model with one LoRA, without experts, has the first two only.
    """
    panels = [(_cosines, gradients), (_by_depth, gradients)]
    optional = ((_routing, routing), (_losses, ablations), (_similarity, similarity))
    panels += [(panel, table) for panel, table in optional if not table.empty]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 4.6 * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for (panel, table), ax in zip(panels, axes, strict=False):
        panel(ax, table)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.suptitle(title, parse_math=False)
    return figure


def _cosines(axes: Axes, table: pd.DataFrame) -> None:
    means = table.groupby(["task", "other"], sort=False)["cosine"].mean()
    tasks = list(dict.fromkeys([*table["task"], *table["other"]]))
    grid = np.full((len(tasks), len(tasks)), np.nan)
    for pair, cosine in means.items():
        one, other = cast(tuple[str, str], pair)
        grid[tasks.index(one), tasks.index(other)] = grid[tasks.index(other), tasks.index(one)] = cosine
    bound = max(0.05, float(np.nanmax(np.abs(grid)))) if np.isfinite(grid).any() else 1.0
    _heatmap(axes, grid, tasks, tasks, "RdBu", (-bound, bound))
    axes.set_title("cosine of the tasks' gradients\n(mean over layers; red: conflicting)", fontsize=10)


def _by_depth(axes: Axes, table: pd.DataFrame) -> None:
    shares = conflicting(table, ["projection", "depth"])
    for index, projection in enumerate(dict.fromkeys(table["projection"])):
        if projection in shares.index.get_level_values(0):
            series = shares[projection]
            axes.plot(
                series.index, series, marker="o", ms=3, color=COLOURS[index % len(COLOURS)], label=projection
            )
    axes.axhline(0.5, color="0.7", lw=0.8, ls="--")  # what random gradients would have
    axes.set(ylim=(-0.02, 1.02), xlabel="layer")
    axes.set_title("fraction of conflicting task pairs, by layer", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _routing(axes: Axes, table: pd.DataFrame) -> None:
    columns = [name for name in table.columns if name.startswith("expert_")]
    left = np.zeros(len(table))
    rows = np.arange(len(table))
    for index, name in enumerate(columns):
        axes.barh(
            rows,
            table[name],
            left=left,
            color=COLOURS[index % len(COLOURS)],
            hatch="///" if index // len(COLOURS) % 2 else None,
            edgecolor="white",
            label=name.removeprefix("expert_"),
        )
        left += table[name].to_numpy()
    axes.set_yticks(rows, [_short(task) for task in table.index], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1))
    axes.set_title("mean routing weight per expert", fontsize=10)
    axes.legend(
        title="expert",
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        ncols=2,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    axes.spines[["top", "right"]].set_visible(False)


def _losses(axes: Axes, table: pd.DataFrame) -> None:
    names = [name for name in table.columns if name.startswith("without_")]
    grid = table[names].sub(table["routed"], axis=0).to_numpy()
    bound = max(0.01, float(np.abs(grid).max()))
    labels = [name.removeprefix("without_") for name in names]
    _heatmap(axes, grid, list(table.index), labels, "PuOr_r", (-bound, bound))
    axes.set_xlabel("ablated expert")
    axes.set_title("change in answer loss without it\n(nats per token)", fontsize=10)


def _similarity(axes: Axes, table: pd.DataFrame) -> None:
    count = int(table["other"].max()) + 1  # every pair has a row, and the last expert is always `other`
    grid = np.full((count, count), np.nan)
    for pair, cosine in table.groupby(["expert", "other"])["cosine"].mean().items():
        one, other = cast(tuple[int, int], pair)
        grid[one, other] = grid[other, one] = cosine
    labels = [str(expert) for expert in range(count)]
    _heatmap(axes, grid, labels, labels, "RdBu", (-1, 1))
    axes.set_title("cosine of the experts' weight deltas BA\n(mean over layers)", fontsize=10)


def _heatmap(
    axes: Axes,
    grid: np.ndarray,
    rows: list[str],
    columns: list[str],
    cmap: str,
    limits: tuple[float, float],
) -> None:
    """A heat map with its values as text; the limits are symmetric about 0."""
    axes.imshow(grid, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows], fontsize=8, parse_math=False)
    tick_style: dict[str, Any] = (
        {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns)) > 3 else {}
    )
    axes.set_xticks(
        range(len(columns)), [_short(name) for name in columns], fontsize=8, parse_math=False, **tick_style
    )
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            dark = abs(value) > 0.6 * limits[1]
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
