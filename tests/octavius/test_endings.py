"""Commands that are interrupted or lose a process end in time, with the right status, and leave nothing behind."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules.miniature.files import Sizes, build
from octavius.files import PREFIX
from tests.octavius.test_processes_cli import alive, started
from tests.tiny import ROOT, options, settings, write_models

pytestmark = pytest.mark.slow

IN_TIME = 30.0
"""Seconds within which a command ends."""


@pytest.fixture(scope="module")
def here(miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml`: dropout, jitter, accumulated gradients, two data workers, losses as CSV."""
    folder = tmp_path_factory.mktemp("here")
    small = settings(write_models(folder), miniature_root)
    small["data"]["init_args"] |= {
        "batch_size": 2,
        "samples_per_epoch": 24,
        "workers": 2,
        "eval_batch_size": 2,
    }
    small["model"]["init_args"]["lora"] |= {
        "dropout": 0.1,
        "gate": {"init_args": {"jitter": 0.1}},
    }
    small["trainer"] |= {"accumulate_grad_batches": 2, "max_epochs": 2, "log_every_n_steps": 1}
    small["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs", "name": "run"}}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    return folder


def tell(folder: Path, place: str, act: str = "wait", rank: int = 0) -> list[str]:
    """Words that have a run make the file `there` at a place."""
    callback = {"place": place, "file": str(folder / "there"), "act": act, "rank": rank}
    entry = {"class_path": "tests.octavius.interrupted_runs.Tell", "init_args": callback}
    (folder / "tell.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [entry]}}))
    return ["--config", str(folder / "tell.yaml")]


def words(folder: Path, **changes: Any) -> list[str]:
    kept = {"checkpoint.dirpath": folder, "trainer.logger.init_args.save_dir": folder / "logs"}
    return ["--config", "small.yaml", *options(**kept, **changes)]


def wait_for(path: Path, run: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def end_of(run: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended in time and left nothing."""
    begin = time.monotonic()
    printed, _ = run.communicate(timeout=IN_TIME)
    while alive(run.pid):
        assert time.monotonic() - begin < IN_TIME
        time.sleep(0.05)
    return printed


@pytest.mark.parametrize(
    ("place", "number", "times", "whole_group"),
    [
        ("on_validation_batch_start", signal.SIGTERM, 1, False),
        ("on_validation_epoch_end", signal.SIGHUP, 1, True),
        ("setup", signal.SIGTERM, 1, True),
        ("on_sanity_check_start", signal.SIGINT, 1, True),
        ("on_train_batch_start", signal.SIGINT, 2, True),
        ("on_train_epoch_end", signal.SIGTERM, 2, False),
    ],
)
def test_a_signal_ends_a_training(
    here: Path, tmp_path: Path, place: str, number: int, times: int, whole_group: bool
) -> None:
    more = [*tell(tmp_path, place), *options(trainer__num_sanity_val_steps=1)]
    with started(here, "fit", *words(tmp_path), *more) as run:
        wait_for(tmp_path / "there", run)
        for turn in range(times):
            time.sleep(1.2 * turn)
            if run.poll() is None:
                (os.killpg if whole_group else os.kill)(run.pid, number)
        printed = end_of(run)
    assert run.returncode == 130, printed
    assert "Traceback" not in printed
    assert "octavius: stopped" in printed


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_signal_ends_an_evaluation(here: Path, tmp_path: Path, command: str) -> None:
    hook = "on_validation_batch_start" if command == "validate" else "on_test_batch_start"
    with started(here, command, *words(tmp_path), *tell(tmp_path, hook)) as run:
        wait_for(tmp_path / "there", run)
        os.kill(run.pid, signal.SIGTERM)
        printed = end_of(run)
    assert run.returncode == 130, printed


def test_a_training_that_is_stuck_in_c_ends(here: Path, tmp_path: Path) -> None:
    with started(here, "fit", *words(tmp_path), *tell(tmp_path, "on_train_batch_start", "stick")) as run:
        wait_for(tmp_path / "there", run)
        os.kill(run.pid, signal.SIGTERM)
        end_of(run)
    assert run.returncode == 130


def test_an_error_in_the_last_hook_of_an_epoch_ends_a_training(here: Path, tmp_path: Path) -> None:
    """With data workers of both loaders waiting for more to do."""
    with started(here, "fit", *words(tmp_path), *tell(tmp_path, "on_train_epoch_end", "raise")) as run:
        wait_for(tmp_path / "there", run)
        printed = end_of(run)
    assert run.returncode == 1
    assert "RuntimeError: raised by a callback" in printed
    assert "go on with: octavius fit --ckpt " in printed


def test_a_killed_data_worker_ends_a_training(here: Path, tmp_path: Path) -> None:
    with started(here, "fit", *words(tmp_path), *tell(tmp_path, "on_train_batch_end")) as run:
        wait_for(tmp_path / "there", run)
        worker = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0]
        os.kill(int(worker), signal.SIGKILL)
        printed = end_of(run)
    assert run.returncode == 2, printed
    assert "a data worker was killed, most likely because memory ran out" in printed
    assert "Traceback" not in printed


def test_nothing_is_left_of_a_killed_training(here: Path, tmp_path: Path) -> None:
    with started(here, "fit", *words(tmp_path), *tell(tmp_path, "on_validation_batch_start")) as run:
        wait_for(tmp_path / "there", run)
        run.kill()
        end_of(run)


TWO = {"trainer__devices": 2, "trainer__strategy": "ddp"}


@pytest.mark.parametrize("strategy", ["ddp", "{class_path: octavius.distributed.fsdp2.FSDP2}"])
def test_a_killed_process_ends_the_others(here: Path, tmp_path: Path, strategy: str) -> None:
    """The second one, in its third step; the first one saves where it has the whole model."""
    more = {**TWO, "trainer__strategy": strategy, "trainer__max_epochs": 50, "data__init_args__workers": 1}
    act = tell(tmp_path, "on_validation_batch_start", "vanish", rank=1)
    with started(here, "fit", *words(tmp_path, **more), *act) as run:
        wait_for(tmp_path / "there", run)
        printed = end_of(run)
    assert run.returncode == 2, printed
    assert (
        "process 1 of this run was killed by signal 9" in printed
        or "another process of this run ended" in printed
    )
    assert (tmp_path / "last.ckpt").exists() == (strategy == "ddp")


@pytest.mark.parametrize("rank", [0, 1])
def test_nothing_is_left_when_a_process_is_stuck(here: Path, tmp_path: Path, rank: int) -> None:
    """The other one waits for it in a message, and hears no signal there."""
    act = tell(tmp_path, "on_train_batch_start", "stick", rank)
    with started(here, "fit", *words(tmp_path, **TWO), *act) as run:
        wait_for(tmp_path / "there", run)
        os.kill(run.pid, signal.SIGTERM)
        end_of(run)
    assert run.returncode == 130


def losses(folder: Path) -> dict[tuple[str, str], str]:
    """What was logged of losses and scores, by step and name."""
    found: dict[tuple[str, str], str] = {}
    for file in sorted(folder.glob("run/version_*/metrics.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                kept = {
                    key: value for key, value in row.items() if value and key.startswith(("train/", "val/"))
                }
                found |= {(row["step"], key): value for key, value in kept.items()}
    return found


@pytest.mark.parametrize("strategy", ["one", "ddp", "{class_path: octavius.distributed.fsdp2.FSDP2}"])
def test_killed_trainings_go_on_bit_for_bit(here: Path, tmp_path: Path, strategy: str) -> None:
    """Each of the signals, at a random moment, to the first process or to all."""
    chance = random.Random(strategy)
    more = {} if strategy == "one" else {"trainer__devices": 2, "trainer__strategy": strategy}
    more |= {"checkpoint__every_n_train_steps": 2, "trainer__logger__init_args__flush_logs_every_n_steps": 1}
    whole = tmp_path / "whole"
    begin = time.monotonic()
    with started(here, "fit", *words(whole, **more)) as run:
        wait_for(whole / "last.ckpt", run)
        first = time.monotonic() - begin
        assert run.wait(600) == 0
    seconds = time.monotonic() - begin
    expected, weights = (
        losses(whole / "logs"),
        torch.load(whole / "last.ckpt", weights_only=True)["state_dict"],
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        folder = tmp_path / str(number)
        with started(here, "fit", *words(folder, **more)) as run:
            time.sleep(chance.uniform(0.8 * first, seconds))
            if run.poll() is None:
                chance.choice([os.kill, os.killpg])(run.pid, number)
            end_of(run)
        assert run.returncode in (0, -9 if number == signal.SIGKILL else 130)
        cut = losses(folder / "logs")
        resume = ["--ckpt", str(folder / "last.ckpt")] if (folder / "last.ckpt").exists() else []
        with started(here, "fit", *words(folder, **more), *resume) as run:
            assert run.wait(600) == 0, run.communicate()[0]
        rest = losses(folder / "logs")
        assert {key: value for key, value in {**cut, **rest}.items() if expected.get(key) != value} == {}
        # Of a task that a step lacks, Lightning logs the last loss again, once there was one.
        missing = set(expected) - set(cut) - set(rest)
        assert {key for _, key in missing if not key.startswith("train/loss/")} == set()
        found = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
        assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_the_workers_of_a_killed_miniature_end_and_the_next_one_clears_up(tmp_path: Path) -> None:
    with started(tmp_path, "miniature", "made") as run:
        end = time.monotonic() + 120
        while not [*tmp_path.glob(f"{PREFIX}*/*")]:
            assert run.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        run.kill()
        end_of(run)
    assert [*tmp_path.glob(f"{PREFIX}*")]
    sizes = Sizes(10, 10, 10, 10, val=10, test=10, val_questions=10, test_questions=10)
    build(tmp_path / "other", sizes=sizes, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_runs_of_a_comparison_end_with_it(here: Path, tmp_path: Path, number: int) -> None:
    (tmp_path / "other.yaml").write_text("{}")
    arms = ["--config", "small.yaml", "--arms", str(tmp_path / "other.yaml"), "--seeds", "1", "--jobs", "2"]
    more = [*tell(tmp_path, "on_validation_batch_start"), "--trainer.max_epochs", "500"]
    with started(here, "compare", *arms, "--out", str(tmp_path / "out"), *more) as run:
        wait_for(tmp_path / "there", run)
        os.kill(run.pid, number)
        printed = end_of(run)
    assert run.returncode == (-9 if number == signal.SIGKILL else 130), printed
    assert [*tmp_path.glob("out/*/seed0/last.ckpt")] or number == signal.SIGKILL


def test_a_signal_while_libraries_are_imported(tmp_path: Path) -> None:
    for delay in (0.3, 1.0, 2.0):
        run = subprocess.Popen(
            [sys.executable, "-m", "octavius", "plan"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(delay)
        if run.poll() is None:
            run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=IN_TIME)[1]
        assert run.returncode in (130, 0, 1), said
        assert "Traceback" not in said
