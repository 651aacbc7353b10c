"""Every option of Lightning's Trainer works, or is refused with one message."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import BatchSizeFinder, EarlyStopping, LearningRateFinder

from octavius.cli.main import main
from octavius.cli.reporting import refused_by_lightning
from octavius.cli.trainer_options import LAUNCHERS, check_trainer
from tests.tiny import refused, settings, write_models


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> str:
    """A configuration of tiny parts, as YAML."""
    return yaml.safe_dump(settings(write_models(tmp_path_factory.mktemp("models")), miniature_root))


@pytest.fixture
def fit(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(small)
    return ["fit", "--config", "small.yaml"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overfit_batches": 1}, "overfit_batches is not supported"),
        ({"overfit_batches": 0.5}, "overfit_batches is not supported"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches should be a whole number of at least 1"),
        ({"accumulate_grad_batches": -1}, "accumulate_grad_batches should be"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch should be"),
        ({"val_check_interval": 0}, "val_check_interval should be a number above 0"),
        ({"val_check_interval": 0.0}, "val_check_interval should be"),
        ({"gradient_clip_val": -1.0}, "gradient_clip_val should be a number of at least 0"),
        ({"log_every_n_steps": -1}, "log_every_n_steps should be"),
        ({"num_sanity_val_steps": -5}, "num_sanity_val_steps should be"),
        ({"callbacks": [BatchSizeFinder()]}, "BatchSizeFinder makes trial steps"),
        ({"callbacks": LearningRateFinder()}, "LearningRateFinder makes trial steps"),
        ({"num_nodes": 0}, "num_nodes should be"),
        ({"num_nodes": 2}, "would wait for the others; start each by torchrun or srun"),
        ({"devices": 99_999, "accelerator": "cpu"}, "devices should be a number of processes from 1 to"),
        ({"devices": "x", "accelerator": "cpu"}, "devices should be a number of processes"),
        ({"devices": -1, "accelerator": "cpu"}, "devices should be a number of processes"),
        ({"devices": 0, "accelerator": "cpu"}, "devices should be a number of processes"),
        ({"strategy": "FSDP2"}, "a class is named by its class_path, .* add --config fsdp.yaml"),
        ({"strategy": "octavius.distributed.fsdp2.FSDP2"}, "{class_path: octavius.distributed.fsdp2.FSDP2}"),
        ({"devices": [0, 1], "accelerator": "cpu"}, "devices should be a number of processes"),
    ],
)
def test_what_lightning_does_not_refuse_in_words(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=said):
        check_trainer(options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"devices": "auto", "accelerator": "cpu"},
        {"devices": "2", "accelerator": "cpu"},
        {"devices": 1, "accelerator": "auto"},
        {"strategy": "ddp_find_unused_parameters_false"},
        {"devices": "0,1", "accelerator": "gpu"},
        {"val_check_interval": 0.25, "check_val_every_n_epoch": None, "gradient_clip_val": None},
        {"val_check_interval": "00:01:00:00", "num_sanity_val_steps": -1, "overfit_batches": 0.0},
    ],
    ids=str,
)
def test_what_works_is_let_through(options: dict[str, Any]) -> None:
    check_trainer(options)


def test_a_machine_among_several_that_a_launcher_started_waits_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    check_trainer({"num_nodes": 2})


def test_an_auto_accelerator_without_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match="devices should be"):
        check_trainer({"devices": 99_999, "accelerator": "auto"})


def test_lightnings_own_refusals_are_told_from_faults() -> None:
    with pytest.raises(RuntimeError) as told:
        EarlyStopping("no such metric")._validate_condition_metric({})
    assert refused_by_lightning(told.value)
    with pytest.raises(RuntimeError) as fault:
        torch.zeros(2) @ torch.zeros(3)
    assert not refused_by_lightning(fault.value)
    assert not refused_by_lightning(KeyError("a"))


STOPPING = "trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitor: nope}}]"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (STOPPING, "nope"),
        ("checkpoint.monitor=nope", "nope"),
        ("trainer.overfit_batches=1", "not supported"),
        ("trainer.precision=64-true", "64-true"),
        ("data.init_args.batch_size=0", "batch_size should be"),
    ],
    ids=["early stopping", "checkpoint", "overfit", "precision", "batch"],
)
def test_a_run_ends_in_one_message(
    word: str, said: str, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused([*fit, f"--{word}"], capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    "word",
    [
        "fast_dev_run=true",
        "limit_train_batches=0",
        "limit_val_batches=0",
        "max_steps=0",
        "max_epochs=0",
        "max_time=00:00:00:01",
        "max_time={weeks: -3}",
        "max_time=xx",
        "val_check_interval=0.3",
        "val_check_interval=100",
        "accumulate_grad_batches=100",
        "detect_anomaly=true",
        "profiler=simple",
        "profiler=nothing",
        "logger=true",
        "enable_checkpointing=false",
        "accelerator=nope",
        "precision=16-mixed",
        "gradient_clip_val=0",
        "gradient_clip_algorithm=what",
        "strategy=nope",
        "log_every_n_steps=0",
        "num_sanity_val_steps=-1",
        "reload_dataloaders_every_n_epochs=1",
        "deterministic=warn",
        "min_epochs=5",
        "barebones=true",
        "default_root_dir=/proc/nope",
        "use_distributed_sampler=true",
        "inference_mode=false",
        "callbacks=[{class_path: StochasticWeightAveraging, init_args: {swa_lrs: 0.1}}]",
        "callbacks=[{class_path: Timer, init_args: {duration: x}}]",
        "callbacks=[{class_path: ModelCheckpoint, init_args: {monitor: nope}}]",
        "callbacks=[{class_path: ModelCheckpoint, init_args: {save_top_k: -3}}]",
    ],
)
def test_any_other_option_works_or_ends_in_one_message(
    word: str, fit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main([*fit, f"--trainer.{word}"])
    assert capsys.readouterr().err.count("octavius: error: ") <= 1
