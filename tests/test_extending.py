"""A new task, metric or gate is one file: a toy of each goes through all commands, from `fit` to `predict`."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torchmetrics import Metric

from octavius.callbacks.scoring.answers import Answered
from octavius.callbacks.scoring.blind import headline_of
from octavius.callbacks.scoring.scores import score, set_intervals, tabulate
from octavius.cli import main
from octavius.instruction.sample import References, Sample
from octavius.loading import load
from octavius.lora_moe.gates.base import Asked, Choice, Gate, GateSize
from octavius.tasks import TASKS
from octavius.tasks.base import Task, gold_of
from tests.tiny import refused, write_models


class CloseCount(Metric):
    """How far counts are off, on average; it says nothing about itself that it need not say."""

    off: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("off", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("counts", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[int | None], golds: Sequence[References]) -> None:
        for said, gold in zip(predictions, golds, strict=True):
            self.off += 10.0 if said is None else abs(said - int(gold.texts[0]))
            self.counts += 1

    def compute(self) -> dict[str, Tensor]:
        return {"mean_error": self.off / self.counts, "total_error": self.off}


class Counting(Task):
    """Asks how many there are."""

    name = "counting"
    questions: ClassVar[tuple[str, ...]] = ("How many are there?",)
    unseen_questions: ClassVar[tuple[str, ...]] = ("Count them.",)
    max_answer_tokens = 4

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002
        return str(self.value(sample))

    def parse(self, text: str, sample: Sample) -> int | None:  # noqa: ARG002
        return int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 9 else None

    def value(self, sample: Sample) -> int:
        return int(gold_of(sample, References).texts[0])

    def _metrics(self, protocol: str) -> list[Metric]:  # noqa: ARG002
        return [CloseCount()]


class LengthGate(Gate):
    """Chooses by the length of the question."""

    def __init__(self, size: GateSize, /, *, longest: float = 20.0) -> None:
        super().__init__(size)
        self.longest = longest
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, self.counts[0]))

    def choices(self, asked: Asked) -> list[Choice]:
        lengths = asked.mask.sum(1, keepdim=True) / self.longest
        weights = (lengths * self.weight).softmax(-1)
        return [Choice(weights, weights)]


def read_counts(root: Path, split: str, bad: str = "error") -> list[Sample]:  # noqa: ARG001
    """Four questions without a picture."""
    return [Sample(f"{split}{n}", "counting", "counts", {}, "", References((str(n),))) for n in range(4)]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds what one line each would add."""
    from datamodules.benchmarks import BENCHMARKS

    monkeypatch.setitem(TASKS, "counting", Counting())
    monkeypatch.setitem(BENCHMARKS, "counts", read_counts)


def answers(values: Sequence[int | None]) -> list[Answered]:
    samples = [Sample(str(n), "counting", "set", {}, "", References((str(n),))) for n in range(len(values))]
    return [
        Answered(sample, "?", str(value), value, None, n)
        for n, (sample, value) in enumerate(zip(samples, values, strict=True))
    ]


@pytest.mark.usefixtures("toys")
def test_a_metric_that_says_nothing_about_itself_has_a_column_an_interval_and_a_headline() -> None:
    found = answers([0, 1, 4, None])  # off by 0, 0, 2 and 10
    scores = score(found)
    assert scores == {"set": {"mean_error": 3.0, "total_error": 12.0}}
    low, high = set_intervals(found)["mean_error"]
    assert 0.0 <= low < 3.0 < high <= 10.0
    table = tabulate(found, scores, {"set": set_intervals(found)})
    assert table.columns.tolist() == ["samples", "protocol", "mean_error", "total_error"]
    assert table["mean_error"]["set"].startswith(f"3.000 [{low:.2f}, {high:.2f}] (")
    assert headline_of("counting", "standard", scores["set"]) == "mean_error"


@pytest.mark.usefixtures("toys")
def test_a_task_a_metric_and_a_gate_go_through_all_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = write_models(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    sets: dict[str, Any] = {
        part: f"[{{benchmark: counts, split: {part}}}]" for part in ("train", "validate", "test")
    }
    main(
        [
            *("fit", "--model", "OctaviusModule", "--model.decoder", "Decoder", "--model.encoders", "{}"),
            *("--model.decoder.init_args.name", str(models / "language")),
            *("--model.lora", "{experts: 3, rank: 2, losses: {cv: 0.1}}"),
            *("--model.lora.gate", f"{__name__}.LengthGate", "--model.lora.gate.init_args.longest", "4"),
            *(
                "--data",
                "ImageInstructions",
                "--data.root",
                ".",
                "--data.batch_size",
                "2",
                "--data.workers",
                "0",
            ),
            *(word for part, value in sets.items() for word in (f"--data.{part}", value)),
            *(
                "--trainer.max_epochs",
                "1",
                "--trainer.accelerator",
                "cpu",
                "--trainer.log_every_n_steps",
                "1",
            ),
            *("--trainer.enable_progress_bar", "false"),
        ]
    )
    assert "mean_error" in capsys.readouterr().out
    assert "--trust" in refused(["test", "--ckpt", "last.ckpt"], capsys)
    main(["test", "--ckpt", "last.ckpt", "--trust"])
    assert "mean_error" in capsys.readouterr().out
    runs = sorted(Path("runs/octavius").iterdir(), key=lambda path: int(path.name.rpartition("_")[2]))
    folder = runs[-1]
    table = pd.read_csv(folder / "metrics_test.csv", index_col=0)
    assert np.isfinite(float(table["mean_error"]["counts"].split()[0]))
    routing = pd.read_csv(folder / "routing_test.csv")
    assert {"expert_0", "expert_2"} <= {*routing.columns} or len(routing) >= 3
    board = EventAccumulator(str(folder))
    board.Reload()
    assert "routing/test/counting/usage/expert_2" in board.Tags()["scalars"]
    assert "train/loss/cv" in EventAccumulator(str(runs[0])).Reload().Tags()["scalars"]
    question = ["--question", "How many are there?", "--trust"]
    main(["predict", *question])
    assert "experts: " in capsys.readouterr().out
    main(["export", *question, "--format", "peft", "--out", "adapter"])
    main(["predict", "--ckpt", "adapter", *question])
    gate = json.loads(Path("adapter/manifest.json").read_text())["gate"]
    assert len(gate) == 3
    assert sum(gate) == pytest.approx(1.0, abs=1e-4)
    module = load(Path("checkpoints/last.ckpt"), trust=True)
    assert isinstance(module.model.gate, LengthGate)
    assert module.model.gate.longest == 4
    assert not torch.equal(module.model.gate.weight, torch.linspace(-1.0, 1.0, 3))  # it has learned
