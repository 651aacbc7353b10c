"""The plan for a configuration and a machine: what fits, what would make it fit, and the time."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from octavius.cli.main import main
from octavius.plan.outline import Setup
from octavius.plan.report import schedule, split_arguments
from tests.tiny import refused


def test_steps_tokens_and_time(setup: Setup) -> None:
    options, rest = split_arguments(
        ["--gpus", "4", "--gpu", "A100", "--utilisation", "0.5", "--text_tokens", "30", "-x"]
    )
    found = schedule(setup, options, 0)
    assert rest == ["-x"]
    assert (found.batch, found.steps, found.tokens) == (32, 30, 30 * 32 * 30)
    twice = schedule(replace(setup, accumulate=2), options, 0)
    assert (twice.batch, twice.steps) == (64, 15)
    assert twice.seconds == pytest.approx(found.seconds)
    # At least forward and backward through all frozen products but the embedding's, at half of 312 TFLOP/s.
    products = 4 * (4 * 64 * 64 + 3 * 64 * 100)
    lowest = 4 * products * found.tokens / 4 / 156e12
    assert lowest < found.seconds < 2 * lowest
    assert schedule(replace(setup, max_steps=7), options, 0).steps == 7
    with pytest.raises(ValueError, match="--samples"):
        schedule(replace(setup, samples_per_epoch=None), options, 0)


@pytest.mark.slow
def test_the_command_says_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    words = ["plan", "--config", "plan.yaml", "--gpus", "2", "--longest", "200"]
    main([*words, "--model.init_args.decoder.init_args.name", "shape"])
    said = capsys.readouterr().out
    assert "LoRA experts" in said
    assert "\nfits: 2.0" in said
    assert "steps: 1 of 8 samples (4 x 1 micro-batches x 2 GPUs)" in said
    assert torch.get_default_device() == torch.device("cpu")


@pytest.mark.slow
def test_the_command_says_what_would_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    words = ["plan", "--config", "plan.yaml", "--gpus", "2", "--longest", "200"]
    main([*words, "--memory", "0.0201", "--reserve", "0.001"])
    said = capsys.readouterr().out
    assert "DOES NOT FIT" in said
    assert "--data.init_args.batch_size" in said or "activation_checkpointing" in said


def test_mistakes_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert "--gpus" in refused(["plan", "--config", "plan.yaml", "--gpus", "0"], capsys)
    assert "no room" in refused(["plan", "--config", "plan.yaml", "--longest", "2"], capsys)
    assert "OctaviusModule" in refused(["plan", "--config", "pretrain/clip.yaml"], capsys)
