"""Callback that reports which experts each task uses, in training and in evaluations."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from octavius.callbacks.board import (
    MEAN,
    OVERVIEW,
    drawable,
    log_folder,
    show,
    show_histogram,
    writers,
)
from octavius.display import COLOURS, csv_cell
from octavius.evaluation.answers import Answered
from octavius.files import write_text
from octavius.instruction.batch import Batch
from octavius.metrics.reporting import headline
from octavius.tasks import TASKS

CELL = ["task", "benchmark", "group"]
"""Columns that name a row; `benchmark` is the evaluation set."""
BINS = np.linspace(0.0, 1.0, 31)
BAR, GAP, TASK = 0.8, 0.35, 1.45
"""Inches: between bars, between tasks, and the minimum width of a task, so that its name fits."""


class RoutingReport(L.Callback):
    """Reports which experts each task uses; does nothing below two experts.

    In training, every `log_every_n_steps` steps, over the samples of rank 0 since the last time:
    `routing/train/{task}/expert_{e}` (mean gate weight), `routing/train/{task}/mean_entropy`, and
    `routing/train/idle` (number of experts that no sample gave a weight).

    If layers or tokens have gate weights of their own, those of a sample are their mean over layers and
    prompt tokens; an expert then counts as used if any layer gives it weight for any token.

    In every tracker, under `routing/{stage}/{task}/`: `expert_{e}` (histogram of the gate weight),
    `usage/expert_{e}` (fraction of samples with non-zero weight for this expert), and in nats
    `entropy_of_mean` (of the task's mean gate weights: low if the task uses few experts) and `mean_entropy`
    (mean over samples: low if each relies on one expert). Over all tasks, under `routing/{stage}/`:
    `dead/expert_{e}` (1 if no sample used the expert) and the figure `experts`. In the log folder:
    `routing_{stage}.png` and `routing_{stage}.csv`.
    """

    def __init__(self) -> None:
        """Starts without samples."""
        self._recent: list[tuple[list[str], Tensor]] = []
        self._laid_out, self._warned = False, False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:  # noqa: ARG002
        """Collects the gate weights of a batch, and logs them when a step is logged."""
        outputs, batch = rest[:2]
        gate = outputs.get("gate") if isinstance(outputs, Mapping) else None
        off = not trainer.loggers or not trainer.log_every_n_steps  # type: ignore[attr-defined]
        if off or not trainer.is_global_zero or not isinstance(batch, Batch):
            return
        # Stays on its device until it is logged: copying it would wait for the step to end.
        tasks = [sample.task for sample in batch.samples]
        self._recent.append((tasks, torch.empty(len(tasks), 0) if gate is None else gate))
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step % every or trainer.fit_loop._should_accumulate():
            return
        named = [task for tasks, _ in self._recent for task in tasks]
        weights = torch.cat([weights.float() for _, weights in self._recent]).cpu().numpy()
        self._recent = []
        if not self._laid_out:
            self._laid_out = True
            for writer in writers(trainer):
                writer.add_custom_scalars(layout(sorted({*named}), weights.shape[1]))
        if weights.shape[1] < 2:
            return
        values = training_scalars(named, weights)
        for logger in trainer.loggers:
            logger.log_metrics(values, trainer.global_step)

    def on_answers(
        self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str, answers: Sequence[Answered]
    ) -> None:
        """Reports one evaluation; called on every rank with all answers."""
        folder = log_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        gates = gate_table(answers)
        if gates.shape[1] < 2 or gates.empty:
            return
        write_tasks(trainer, gates, f"routing/{stage}")
        table = summarise(gates).map(csv_cell)
        write_text(folder / f"routing_{stage}.csv", table.to_csv(index=False, float_format="%.6f"))
        title = f"Gate routing, {stage}, step {trainer.global_step}"
        show(trainer, draw(gates, title), f"routing/{stage}/experts", folder / f"routing_{stage}.png")
        dead = ", ".join(str(expert) for expert in np.flatnonzero(~used(gates)))
        if dead and not self._warned:
            self._warned = True
            pl_module.print(
                f"warning: none of {len(gates)} answers ({stage}) used expert {dead} of 0 to "
                f"{gates.shape[1] - 1}; an expert that is never chosen learns nothing. If that stays so (see "
                "routing/train/idle), train with fewer experts, or with a loss that balances them, such as "
                "lora.losses: {switch: 0.01}"
            )


def training_scalars(tasks: Sequence[str], weights: np.ndarray) -> dict[str, float]:
    """What is logged of the gate weights (N, E) of N training samples, whose tasks are given."""
    values = {"routing/train/idle": float((~(weights > 0).any(axis=0)).sum())}
    for task in sorted({*tasks}):
        own = weights[[one == task for one in tasks]]
        values |= {
            f"routing/train/{task}/expert_{expert}": mean for expert, mean in enumerate(own.mean(0).tolist())
        }
        values[f"routing/train/{task}/mean_entropy"] = float(entropy(own).mean())
    return values


def layout(tasks: Sequence[str], experts: int) -> dict[str, dict[str, list[Any]]]:
    """The dashboard "Custom Scalars" of TensorBoard: losses, scores and routing in a few charts of several lines."""
    keys = dict.fromkeys(
        key
        for task in tasks
        for metric in TASKS[task].metrics(TASKS[task].protocols[0])
        if (key := headline(metric)) is not None
    )
    charts: dict[str, dict[str, list[Any]]] = {
        "Training": {
            "loss": ["Multiline", ["^train/loss$"]],
            "loss by task": ["Multiline", [f"^train/loss/{task}$" for task in tasks]],
        },
        "Headline scores in validation, by task": {
            "all tasks": ["Multiline", [f"^{OVERVIEW.format('val', task)}$" for task in (MEAN, *tasks)]]
        },
        "Validation scores": {key: ["Multiline", [f"^val/.+/{re.escape(key)}$"]] for key in keys},
    }
    if experts > 1:
        charts["Routing in training (mean gate weights)"] = {
            task: ["Multiline", [f"^routing/train/{task}/expert_"]] for task in tasks
        }
        charts["Idle experts"] = {
            "in training": ["Multiline", ["^routing/train/idle$"]],
            "in validation": ["Multiline", ["^routing/val/dead/"]],
        }
    return charts


def gate_table(answers: Sequence[Answered]) -> pd.DataFrame:
    """Gate weights with one row per sample (indexed by task, benchmark, group) and one column per expert.

    Answers without gate weights, or with non-finite ones, are left out.
    """
    routed = [(item, item.gate) for item in answers if item.gate and np.isfinite(item.gate).all()]
    cells = [(item.sample.task, item.set_name, item.sample.group) for item, _ in routed]
    if not routed:
        return pd.DataFrame()
    index = pd.MultiIndex.from_tuples(cells, names=CELL)
    weights = np.array([gate for _, gate in routed], dtype=float)
    return pd.DataFrame(weights, index=index, columns=pd.RangeIndex(weights.shape[1], name="expert"))


def used(gates: pd.DataFrame) -> np.ndarray:
    """Whether any sample has non-zero weight for each expert, (E,)."""
    return np.asarray((gates > 0).any())


def summarise(gates: pd.DataFrame) -> pd.DataFrame:
    """Mean weight and usage of each expert, one row per task, benchmark, group and expert."""
    means = gates.groupby(level=CELL).mean().stack()
    usage = (gates > 0).groupby(level=CELL).mean().stack()
    counts = gates.groupby(level=CELL).size()
    table = pd.DataFrame({"mean_weight": means, "usage": usage}).reset_index()
    table.insert(4, "instances", counts.reindex(pd.MultiIndex.from_frame(table[CELL])).to_numpy())
    return table


def entropy(weights: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis of weights (..., E), which are normalised first.

    >>> round(float(entropy(np.array([0.3, 0.3, 0.0]))), 4)
    0.6931
    """
    shares = weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return -(shares * logs).sum(axis=-1)


def write_tasks(trainer: L.Trainer, gates: pd.DataFrame, tag: str) -> None:
    """Writes histograms and scalars of every task, and the dead experts, under a tag."""
    values = dict[str, float]()
    for task, rows in gates.groupby(level="task"):
        weights = rows.to_numpy()
        for expert, column in enumerate(weights.T):
            show_histogram(trainer, f"{tag}/{task}/expert_{expert}", column.clip(0, 1), BINS)
            values[f"{tag}/{task}/usage/expert_{expert}"] = float((column > 0).mean())
        values[f"{tag}/{task}/entropy_of_mean"] = float(entropy(weights.mean(axis=0)))
        values[f"{tag}/{task}/mean_entropy"] = float(entropy(weights).mean())
    for expert, alive in enumerate(used(gates)):
        values[f"{tag}/dead/expert_{expert}"] = float(not alive)
    for logger in trainer.loggers:
        logger.log_metrics(values, trainer.global_step)


def draw(gates: pd.DataFrame, title: str) -> Figure:
    """Stacked bars of the mean gate weights: one bar per benchmark, grouped by task."""
    bars = gates.groupby(level=CELL[:2]).mean()
    counts = gates.groupby(level=CELL[:2]).size()
    tasks: dict[str, list[str]] = {}
    for task, benchmark in bars.index.to_list():
        tasks.setdefault(task, []).append(benchmark)
    width = sum(max(TASK, BAR * len(names)) + GAP for names in tasks.values()) + GAP
    figure = Figure(figsize=(width + 2.2, 4.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    positions: list[float] = []
    left = GAP
    for task, names in tasks.items():
        room = max(TASK, BAR * len(names))
        start = left + (room - BAR * (len(names) - 1)) / 2
        positions.extend(start + BAR * number for number in range(len(names)))
        axes.text(left + room / 2, 1.02, task.replace("_", " "), ha="center", va="bottom", weight="bold")
        left += room + GAP
    _stack(axes, np.array(positions), bars.to_numpy())
    names = [drawable(benchmark, 60) for _, benchmark in bars.index]
    labels = [f"{name}\n({count})" for name, count in zip(names, counts, strict=True)]
    axes.set_xticks(positions, labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set(xlim=(0, width), ylim=(0, 1), ylabel="mean gate weight")
    axes.set_xlabel("evaluation set (samples)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, pad=26)
    handles, experts = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], experts[::-1], loc="outside right center", frameon=False)
    return figure


def _stack(axes: Axes, positions: np.ndarray, bars: np.ndarray) -> None:
    """Draws bars (N, E) at x positions (N,), with the value on each segment that is high enough."""
    base = np.zeros(len(bars))
    for expert, shares in enumerate(bars.T):
        colour = COLOURS[expert % len(COLOURS)]
        hatch = "///" if expert // len(COLOURS) % 2 else None
        axes.bar(
            positions,
            shares,
            0.6,
            base,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=f"expert {expert}",
        )
        # Text colour by luma (Rec. 601).
        ink = "black" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) > 0.41 else "white"
        for position, low, share in zip(positions, base, shares, strict=True):
            if share >= 0.06:
                middle = low + share / 2
                axes.text(position, middle, f"{share:.2f}", ha="center", va="center", color=ink, fontsize=8)
        base += shares
