"""A new task or metric is one file and one line: a toy of each goes through fit, test and the tables."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from octavius.callbacks.scoring.answers import Answered
from octavius.callbacks.scoring.blind import headline_of
from octavius.callbacks.scoring.scores import score, set_intervals, tabulate
from octavius.cli import main
from octavius.instruction.sample import References, Sample
from octavius.tasks import TASKS
from octavius.tasks.base import Task, gold_of
from tests.tiny import write_models


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
def test_a_task_goes_through_fit_and_test(
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
            *("--model.lora", "{experts: 2, rank: 2, top_k: 1}"),
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
                "--trainer.enable_progress_bar",
                "false",
            ),
        ]
    )
    assert "mean_error" in capsys.readouterr().out
    main(["test", "--ckpt", "last.ckpt"])
    assert "mean_error" in capsys.readouterr().out
    folder = max(Path("runs/octavius").iterdir(), key=lambda path: int(path.name.rpartition("_")[2]))
    table = pd.read_csv(folder / "metrics_test.csv", index_col=0)
    assert np.isfinite(float(table["mean_error"]["counts"].split()[0]))
    main(["predict", "--question", "How many are there?"])
    assert "experts: " in capsys.readouterr().out
