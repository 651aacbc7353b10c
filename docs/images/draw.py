"""Draws the pictures of the documentation from real runs, with the figures of the evaluation.

Gate weights in the conventions benchmark, and detections of the miniature:

    octavius fit --config conventions.yaml --config conventions/affinity.yaml
    octavius test --ckpt last.ckpt
    python docs/images/draw.py routing runs/octavius/version_1/predictions_test.jsonl

    octavius fit --config 2d.yaml
    octavius test --ckpt last.ckpt
    python docs/images/draw.py detections runs/octavius/version_3/predictions_test.jsonl

How two gates develop in training, from the log folders of `octavius compare --plan comparisons/conventions.yaml`:

    python docs/images/draw.py training runs/conventions/instance/seed0/logs runs/conventions/affinity/seed0/logs
"""

import argparse
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from octavius.callbacks import pictures, routing
from octavius.callbacks.board import save
from octavius.display import COLOURS
from octavius.evaluation.answers import Answered
from octavius.evaluation.predictions import read_predictions

HERE = Path(__file__).resolve().parent
SETS = {"seen": "as in training", "unseen_frame": "unseen phrases around the question"}
"""Evaluation sets of the conventions benchmark that are drawn, and their titles."""


def draw_routing(file: Path) -> Figure:
    """Mean gate weights of each convention."""
    gates = routing.gate_table([item for item in read_predictions(file) if item.set_name in SETS])
    gates = gates.reset_index("task", drop=True).rename(SETS, level="benchmark")
    gates.index = gates.index.set_names(["task", "benchmark"])  # a bar per convention instead of per set
    return routing.draw(gates, "Gate weights of four experts, gate: affinity")


def draw_detections(file: Path) -> Figure:
    """Two pseudo-random images of each set, a column per set, with true and predicted boxes."""
    answers = [item for item in read_predictions(file) if pictures.picture_of(item)]
    chosen = pictures.choose(answers, 2)
    rows = {
        str(number): [items[number] for items in chosen.values() if number < len(items)]
        for number in range(2)
    }
    rows = {name: items for name, items in rows.items() if items}
    return pictures.draw(rows, "Detections on the test sets", titled)


def titled(axes: Axes, item: Answered, _: str) -> None:
    """Draws a detection under the name of its evaluation set."""
    pictures.detection_panel(axes, item, item.set_name.removesuffix("/detection").replace("_", " "))


def draw_training(folders: list[Path]) -> Figure:
    """Mean gate weights and loss over the steps of a training: a column for each folder of logs."""
    figure = Figure(figsize=(4.2 * len(folders), 4.2), dpi=120, layout="constrained")
    grid = figure.subplots(2, len(folders), squeeze=False, sharex=True, sharey="row")
    for (weights, loss), folder in zip(grid.T, folders, strict=True):
        scalars = read_scalars(folder)
        experts = {
            tag: own for tag, own in scalars.items() if re.fullmatch(r"routing/train/.+/expert_\d+", tag)
        }
        steps = sorted(next(iter(experts.values())))
        shares = np.array([[own[step] for step in steps] for own in experts.values()])
        weights.stackplot(
            steps, shares, colors=COLOURS, labels=[f"expert {index}" for index in range(len(experts))]
        )
        weights.set(title=f"gate: {folder.parts[-3]}", ylim=(0, 1), ylabel="mean gate weight")
        losses = sorted(scalars["train/loss"].items())
        loss.plot(*zip(*losses, strict=True), color="black")
        loss.set(xlabel="step", ylabel="training loss", ylim=(0, None), xlim=(steps[0], steps[-1]))
        for axes in (weights, loss):
            axes.spines[["top", "right"]].set_visible(False)
            axes.label_outer()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """By tag, the values by step of all log folders of a run, which has several if it was resumed."""
    found: dict[str, dict[int, float]] = {}
    for version in sorted(folder.glob("version_*")):
        events = EventAccumulator(str(version))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return found


def main() -> None:
    """Draws the picture that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", choices=["routing", "detections", "training"])
    parser.add_argument(
        "source", type=Path, nargs="+", help="predictions_test.jsonl of a run; for `training` folders of logs"
    )
    words = parser.parse_args()
    if words.picture == "training":
        figure = draw_training(words.source)
    else:
        figure = (draw_routing if words.picture == "routing" else draw_detections)(words.source[0])
    save(figure, HERE / f"{words.picture}.png")


if __name__ == "__main__":
    main()
