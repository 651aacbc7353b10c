"""Draws the pictures of the README from the predictions of real runs, with the figures of the evaluation.

The routing picture shows the conventions benchmark, the other one detections of the miniature:

    octavius fit --config conventions.yaml
    octavius test --ckpt last.ckpt
    python docs/images/draw.py routing runs/octavius/version_1/predictions_test.jsonl

    octavius fit --config 2d.yaml
    octavius test --ckpt last.ckpt
    python docs/images/draw.py detections runs/octavius/version_3/predictions_test.jsonl
"""

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octavius.callbacks import pictures, routing
from octavius.callbacks.board import save
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
    return routing.draw(gates, "Gate weights of four experts, gate: source")


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


def main() -> None:
    """Draws the picture that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", choices=["routing", "detections"])
    parser.add_argument("predictions", type=Path, help="predictions_test.jsonl of a run")
    words = parser.parse_args()
    draw = draw_routing if words.picture == "routing" else draw_detections
    save(draw(words.predictions), HERE / f"{words.picture}.png")


if __name__ == "__main__":
    main()
