"""Reports of hand-made gate weights: event files, table and figure are read back."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from torch.utils.tensorboard.summary import custom_scalars

from octavius.callbacks.routing import (
    RoutingReport,
    draw,
    entropy,
    gate_table,
    layout,
    summarise,
    training_scalars,
)
from octavius.evaluation.answers import Answered
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Boxes, Choice, Gold, Sample

GOLDS: dict[str, Gold] = {"detection": Boxes(()), "vqa": Choice(("yes", "no"), 0)}


def answered(task: str, benchmark: str, group: str, gate: tuple[float, ...] | None) -> Answered:
    sample = Sample("1", task, benchmark, {}, "", GOLDS[task], group=group)
    return Answered(sample, "what?", "that", None, gate)


# Expert 2 is in no instance's top-k.
ANSWERS = [
    answered("detection", "voc", "", (0.75, 0.25, 0.0, 0.0)),
    answered("detection", "voc", "", (0.25, 0.75, 0.0, 0.0)),
    answered("detection", "coco", "", (1.0, 0.0, 0.0, 0.0)),
    answered("vqa", "scienceqa", "maps", (0.0, 0.5, 0.0, 0.5)),
    answered("vqa", "scienceqa", "plants", (0.0, 0.0, 0.0, 1.0)),
]


@pytest.fixture(scope="module")
def folder(evaluate: Callable[..., L.Trainer]) -> Path:
    return Path(str(evaluate(RoutingReport(), ANSWERS).log_dir))


@pytest.fixture(scope="module")
def log(folder: Path, events: Callable[[Path], EventAccumulator]) -> EventAccumulator:
    return events(folder)


def test_scalars_say_usage_entropy_and_dead_experts(log: EventAccumulator) -> None:
    def scalar(tag: str) -> float:
        (event,) = log.Scalars(f"routing/val/{tag}")
        assert event.step == 3
        return float(event.value)

    usage = {
        task: [scalar(f"{task}/usage/expert_{expert}") for expert in range(4)]
        for task in ("detection", "vqa")
    }
    assert usage["detection"] == pytest.approx([1.0, 2 / 3, 0.0, 0.0])
    assert usage["vqa"] == pytest.approx([0.0, 0.5, 0.0, 1.0])
    assert [scalar(f"dead/expert_{expert}") for expert in range(4)] == [0.0, 0.0, 1.0, 0.0]
    # vqa: the mean gate is (0, 1/4, 0, 3/4); one instance halves between two experts, one keeps to one.
    assert scalar("vqa/entropy_of_mean") == pytest.approx(math.log(4) - 0.75 * math.log(3))
    assert scalar("vqa/mean_entropy") == pytest.approx(math.log(2) / 2)


def test_histograms_hold_every_weight_of_a_task(log: EventAccumulator) -> None:
    tags = {f"routing/val/{task}/expert_{expert}" for task in ("detection", "vqa") for expert in range(4)}
    assert set(log.Tags()["histograms"]) == tags
    (event,) = log.Histograms("routing/val/detection/expert_0")
    value = event.histogram_value
    assert event.step == 3
    assert (value.num, value.sum, value.min, value.max) == (3, 2.0, 0.0, 1.0)
    filled = [limit for limit, count in zip(value.bucket_limit, value.bucket, strict=True) if count >= 1]
    assert sum(value.bucket) == pytest.approx(3)
    assert len(filled) == 3, "0.25, 0.75 and 1 fall into bars of their own"


def test_table_equals_the_hand_computation(folder: Path) -> None:
    with (folder / "routing_val.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["task", "benchmark", "group", "expert", "instances", "mean_weight", "usage"]
    found = {
        (row["task"], row["benchmark"], row["group"], int(row["expert"])): (
            int(row["instances"]),
            float(row["mean_weight"]),
            float(row["usage"]),
        )
        for row in rows
    }
    voc = {0: (2, 0.5, 1.0), 1: (2, 0.5, 1.0), 2: (2, 0.0, 0.0), 3: (2, 0.0, 0.0)}
    coco = {0: (1, 1.0, 1.0), 1: (1, 0.0, 0.0), 2: (1, 0.0, 0.0), 3: (1, 0.0, 0.0)}
    maps = {0: (1, 0.0, 0.0), 1: (1, 0.5, 1.0), 2: (1, 0.0, 0.0), 3: (1, 0.5, 1.0)}
    plants = {0: (1, 0.0, 0.0), 1: (1, 0.0, 0.0), 2: (1, 0.0, 0.0), 3: (1, 1.0, 1.0)}
    cells = {
        ("detection", "voc", ""): voc,
        ("detection", "coco", ""): coco,
        ("vqa", "scienceqa", "maps"): maps,
        ("vqa", "scienceqa", "plants"): plants,
    }
    assert found == {
        (*cell, expert): row for cell, experts in cells.items() for expert, row in experts.items()
    }


def test_figure_is_in_the_log_and_beside_it(folder: Path, log: EventAccumulator) -> None:
    with Image.open(folder / "routing_val.png") as image:
        size, colours = image.size, image.convert("RGB").getcolors(1 << 20)
    painted = {colour for count, colour in colours if count > 1000}
    assert len(painted) >= 4, "white and the three experts in use"
    (shown,) = log.Images("routing/val/experts")
    assert (shown.width, shown.height, shown.step) == (*size, 3)


def test_bars_stack_the_mean_weights_of_each_benchmark() -> None:
    (axes,) = draw(gate_table(ANSWERS), "Gate routing").axes
    bars = [[bar.get_height() for bar in expert] for expert in axes.containers]
    names = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert names == [["coco", "(1)"], ["voc", "(2)"], ["scienceqa", "(2)"]]
    assert np.allclose(bars, [[1, 0.5, 0], [0, 0.5, 0.25], [0, 0, 0], [0, 0, 0.75]])
    tops = [bar.get_y() + bar.get_height() for bar in axes.containers[-1]]
    assert np.allclose(tops, 1.0)
    assert [text.get_text() for text in axes.texts if text.get_weight() == "bold"] == ["detection", "vqa"]


def test_dead_experts_are_named_in_one_line(
    evaluate: Callable[..., L.Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    report = RoutingReport()
    evaluate(report, ANSWERS)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert "none of 5 answers (val) used expert 2 of 0 to 3" in line
    assert "fewer experts, or with a loss that balances them" in line
    evaluate(report, ANSWERS)
    assert "warning" not in capsys.readouterr().out  # once for each run


def test_no_warning_when_all_experts_work(
    evaluate: Callable[..., L.Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(RoutingReport(), [answered("vqa", "scienceqa", "", (0.1, 0.9))])
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "answers",
    [[], [answered("vqa", "a", "", (1.0,))] * 3, [answered("vqa", "a", "", None)] * 3],
    ids=["no answers", "one expert", "no experts"],
)
def test_nothing_below_two_experts(
    evaluate: Callable[..., L.Trainer],
    events: Callable[[Path], EventAccumulator],
    answers: list[Answered],
) -> None:
    folder = Path(str(evaluate(RoutingReport(), answers).log_dir))
    assert not list(folder.glob("routing*"))
    tags = events(folder).Tags()
    assert not [tag for kind in ("scalars", "histograms", "images") for tag in tags[kind] if "routing" in tag]


def test_nothing_without_a_logger(evaluate: Callable[..., L.Trainer]) -> None:
    trainer = evaluate(RoutingReport(), ANSWERS, logger=False)
    assert not list(Path(trainer.default_root_dir).rglob("routing*"))


def test_files_without_tensorboard(evaluate: Callable[..., L.Trainer], tmp_path: Path) -> None:
    trainer = evaluate(RoutingReport(), ANSWERS, logger=CSVLogger(tmp_path))
    names = {file.name for file in Path(str(trainer.log_dir)).iterdir()}
    assert {"routing_val.png", "routing_val.csv"} <= names


def test_other_processes_join_the_broadcast_and_write_nothing(
    evaluate: Callable[..., L.Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = evaluate(RoutingReport(), [])
    asked = []
    log_dir = L.Trainer.log_dir

    def counted(trainer: L.Trainer) -> str | None:
        asked.append(trainer)
        return log_dir.fget(trainer)  # type: ignore[attr-defined]

    monkeypatch.setattr(L.Trainer, "log_dir", property(counted))
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda _: False))
    RoutingReport().on_answers(trainer, trainer.lightning_module, "val", ANSWERS)
    assert asked == [trainer]
    assert not list(Path(trainer.default_root_dir).rglob("routing*"))


def test_weights_that_are_not_numbers_are_left_out() -> None:
    broken = answered("vqa", "scienceqa", "maps", (math.nan, math.nan, math.nan, math.nan))
    assert summarise(gate_table([*ANSWERS, broken])).equals(summarise(gate_table(ANSWERS)))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda weights: sum(weights) > 0.1))
def test_entropy_equals_the_slow_sum(weights: list[float]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    slow = sum(-share * math.log(share) for share in shares if share > 0)
    assert float(entropy(np.array(shares))) == pytest.approx(slow, abs=1e-9)
    assert -1e-9 <= slow <= math.log(len(weights)) + 1e-9


def test_what_is_logged_in_training() -> None:
    weights = np.array([[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    found = training_scalars(["vqa", "vqa", "detection"], weights)
    assert found["routing/train/idle"] == 1
    assert [found[f"routing/train/vqa/expert_{expert}"] for expert in range(3)] == [0.5, 0.5, 0.0]
    assert found["routing/train/detection/mean_entropy"] == 0
    assert found["routing/train/vqa/mean_entropy"] == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )


def test_charts_match_the_tags_that_are_logged() -> None:
    charts = layout(["detection", "vqa"], 4)
    tags = [
        *("train/loss", "train/loss/vqa", "val/held_out/detection/recall50", "val/seen/vqa/acc1"),
        *("routing/train/vqa/expert_3", "routing/train/idle", "routing/val/dead/expert_1"),
        *("Overview/val/vqa", "Overview/val/mean"),
    ]
    patterns = [pattern for group in charts.values() for _, many in group.values() for pattern in many]
    for tag in tags:
        assert sum(re.search(pattern, tag) is not None for pattern in patterns) == 1, tag
    assert not any(re.search(pattern, "val/seen/vqa/acc1_exact") for pattern in patterns)
    assert "Idle experts" not in layout(["vqa"], 1)
    assert custom_scalars(charts).value  # TensorBoard can build its message of them


class Routed(BoringModel):
    """Answers with gate weights for a batch of two samples, as a training step does."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
        return {"loss": self.layer(torch.ones(1, 32)).sum(), "gate": torch.tensor([[1.0, 0.0], [0.5, 0.5]])}

    def train_dataloader(self) -> Any:
        samples = [
            Sample("1", "vqa", "vqa", {}, "", GOLDS["vqa"]),
            Sample("2", "detection", "voc", {}, "", Boxes(())),
        ]
        nothing = torch.empty(0)
        batch = Batch(nothing, nothing, nothing, nothing, nothing, {}, {}, samples)
        return DataLoader([batch] * 4, batch_size=None)


def test_routing_is_logged_every_few_steps(
    tmp_path: Path, events: Callable[[Path], EventAccumulator]
) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, name=None),
        callbacks=[RoutingReport()],
        max_steps=4,
        limit_val_batches=0,
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Routed())
    log = events(tmp_path / "version_0")
    assert [(event.step, event.value) for event in log.Scalars("routing/train/vqa/expert_0")] == [
        (2, 1.0),
        (4, 1.0),
    ]
    assert [event.value for event in log.Scalars("routing/train/detection/expert_1")] == [0.5, 0.5]
    assert "custom_scalars__config__" in log.Tags()["tensors"]
