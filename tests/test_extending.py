"""A new task, metric, gate or modality is one file: a toy of each goes through all commands."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torchmetrics import Metric

from octavius.checkpoint.load import load
from octavius.cli.main import main
from octavius.encoders.base import Encoder
from octavius.evaluation.answers import Answered
from octavius.evaluation.scores import chance, headline_of, score, set_intervals, tabulate
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media, References, Sample
from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput, GateSize
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

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        lengths = asked.mask.sum(1, keepdim=True) / self.longest
        weights = (lengths * self.weight).softmax(-1)
        return [GateOutput(weights, weights)]


@dataclass(frozen=True)
class SignalLoader(MediaLoader):
    """Reads a signal of a fixed length."""

    length: int

    def __call__(self, media: Media) -> Tensor:
        array = media.array if media.path is None else np.load(media.path)
        if array.shape != (self.length,):
            raise ValueError(
                f"expected a signal of {self.length} numbers, found {array.shape} at {media.path}"
            )
        return torch.from_numpy(array).float()


class SignalEncoder(Encoder):
    """Pieces of a signal, as they are."""

    tags = ("<Sig>", "</Sig>")

    def __init__(self, length: int = 32, num_tokens: int = 4) -> None:
        super().__init__()
        self.length, self.num_tokens, self.width = length, num_tokens, length // num_tokens

    def loader(self) -> MediaLoader:
        return SignalLoader(self.length)

    def dummy_input(self) -> Tensor:
        return torch.zeros(1, self.length)

    def forward(self, media: Tensor) -> Tensor:
        return media.view(len(media), self.num_tokens, self.width)


def read_signals(root: Path, split: str, bad: str = "error") -> list[Sample]:  # noqa: ARG001
    """A question about each signal in a folder, which has so many peaks as its name says."""
    return [
        Sample(
            path.stem, "counting", "signals", {"signal": Media(path=path)}, "", References((path.stem[-1],))
        )
        for path in sorted(root.glob(f"{split}?.npy"))
    ]


def read_counts(root: Path, split: str, bad: str = "error") -> list[Sample]:  # noqa: ARG001
    """Four questions without a picture."""
    return [Sample(f"{split}{n}", "counting", "counts", {}, "", References((str(n),))) for n in range(4)]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds what one line each would add."""
    from datamodules.benchmarks import BENCHMARKS, Benchmark

    monkeypatch.setitem(TASKS, "counting", Counting())
    monkeypatch.setitem(BENCHMARKS, "counts", Benchmark(read_counts))
    monkeypatch.setitem(BENCHMARKS, "signals", Benchmark(read_signals))


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
    table = tabulate(found, scores, chance(found), {"set": set_intervals(found)})
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
    table = pd.read_csv(folder / "metrics_test.csv").set_index(["set", "metric"])
    assert np.isfinite(table["value"]["counts", "mean_error"])
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


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_a_modality_goes_through_all_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = write_models(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validate", "test"):
        for peaks in range(1, 5):
            np.save(f"{split}{peaks}.npy", np.sin(np.linspace(0, 2 * np.pi * peaks, 32)))
    parts = {
        name: {
            "class_path": "ImageInstructions",
            "init_args": {
                "root": ".",
                **{part: [{"benchmark": name, "split": part}] for part in ("train", "validate", "test")},
            },
        }
        for name in ("counts", "signals")
    }
    encoder = {"class_path": f"{__name__}.SignalEncoder", "init_args": {"num_tokens": 8}}
    decoder = {"class_path": "Decoder", "init_args": {"name": str(models / "language")}}
    lora = {"experts": 2, "rank": 2}
    config = {
        "model": {
            "class_path": "OctaviusModule",
            "init_args": {"decoder": decoder, "encoders": {"signal": encoder}, "lora": lora},
        },
        "data": {
            "class_path": "datamodules.mixed.MixedInstructions",
            "init_args": {
                "images": parts["counts"],
                "others": {"signals": parts["signals"]},
                "passes": {"others": {"signals": 2}},
                "batch_size": 2,
                "workers": 0,
            },
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    }
    Path("signal.yaml").write_text(yaml.safe_dump(config))
    main(["check-data", "--config", "signal.yaml", "--jobs", "1"])
    said = capsys.readouterr().out
    assert "signals, split train: 4 samples" in said
    assert "nothing is wrong" in said
    main(["fit", "--config", "signal.yaml"])
    main(["test", "--ckpt", "last.ckpt", "--trust"])
    assert "mean_error" in capsys.readouterr().out
    runs = sorted(Path("runs/octavius").iterdir(), key=lambda path: int(path.name.rpartition("_")[2]))
    table = pd.read_csv(runs[-1] / "metrics_test.csv").set_index(["set", "metric"])
    assert np.isfinite(table["value"]["signals", "mean_error"])
    assert "answers/test/signals/text_summary" in EventAccumulator(str(runs[-1])).Reload().Tags()["tensors"]
    asked = ["predict", "--question", "How many are there?", "--trust"]
    main([*asked, "--media.signal", "test1.npy"])
    assert "experts: " in capsys.readouterr().out
    assert "there is no signal file" in refused([*asked, "--media.signal", "none.npy"], capsys)
    assert "no encoder for sound; it takes signal" in refused([*asked, "--media.sound", "test1.npy"], capsys)
    module = load(Path("checkpoints/last.ckpt"), trust=True)
    builder = module.processor.prompts
    prompt = builder.build(read_signals(Path(), "test")[0], "How many?", None)
    assert len(prompt.slots["signal"]) == 8
    assert "<Sig>" in builder.tokenizer.decode(prompt.ids)
    about = ["--question", "How many are there?", "--trust"]
    main(["export", *about, "--format", "peft", "--out", "adapter"])
    main(["predict", "--ckpt", "adapter", *about, "--media.signal", "test1.npy"])
    Path("train1.npy").write_bytes(Path("train1.npy").read_bytes()[:200])
    with pytest.raises(SystemExit) as end:
        main(["check-data", "--config", "signal.yaml", "--jobs", "1"])
    assert end.value.code == 2
    assert "1 media that cannot be opened" in capsys.readouterr().out
