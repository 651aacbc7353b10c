"""The command line starts the second process itself; runs train, resume, score, and end by error or signal."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import pytest
import torch
import yaml

from datamodules.benchmarks import read
from datamodules.mixture import MixtureSampler
from octavius.cli.main import main
from tests.tiny import ROOT, settings, write_models

pytestmark = pytest.mark.slow

SCRIPT = "import sys\nfrom octavius.cli.main import main\nsys.exit(main())\n"
"""What installing the package writes as the command `octavius`."""


@pytest.fixture(scope="module")
def here(miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml` and the command `octavius`."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "octavius").write_text(SCRIPT)
    small = settings(write_models(folder), miniature_root)
    small["data"]["init_args"] |= {"batch_size": 2, "samples_per_epoch": 12}
    small["trainer"]["devices"] = 2
    del small["trainer"]["logger"]
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    return folder


def octavius(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `python ...` in the folder; a run that hangs is an error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def predictions(file: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [(line["id"], line["prediction"]) for line in lines]


def test_a_run_of_two_processes_goes_on_and_is_tested_by_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "small.yaml", "--config", "fsdp.yaml", "--trainer.devices", "2"]
    first = octavius(here, "octavius", "fit", *words)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "Starting with 2 processes" in first.stderr
    assert first.stdout.count("next: octavius test --ckpt last.ckpt") == 1
    checkpoint = here / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 3

    second = octavius(here, "-m", "octavius", "fit", "--ckpt", "last.ckpt", "--trainer.max_epochs", "2")
    assert second.returncode == 0, second.stderr[-3000:]
    assert "Starting with 2 processes" in second.stderr
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 6

    monkeypatch.chdir(here)
    alone = ["--ckpt", "last.ckpt", "--trainer.devices", "1", "--trainer.strategy", "auto"]
    main(["validate", *alone])
    main(["test", *alone])
    assert "coco_captioning" in capsys.readouterr().out
    logs = here / "runs" / "octavius"
    two, one = (predictions(logs / f"version_{number}" / "predictions_val.jsonl") for number in (1, 2))
    assert two == one
    assert len(dict(one)) == 4


@pytest.mark.parametrize("strategy", ["ddp", "octavius.distributed.fsdp2.FSDP2"])
def test_an_error_of_the_second_process_ends_the_run(here: Path, strategy: str) -> None:
    """A picture that cannot be read, met by the second rank alone in its fifth step."""
    small = yaml.safe_load((here / "small.yaml").read_text())
    data = small["data"]["init_args"]
    root = here / f"broken-{strategy}"
    copytree(data["root"], root)
    samples = read("coco_captioning", root / "seen" / "coco", "train2017", "error")
    sampler = MixtureSampler([len(samples)], [1.0], 12, 1, seed=0, rank=1, world=2)
    _, place, _ = list(sampler)[4]
    picture = samples[place].media["image"].path
    assert picture is not None
    picture.write_text("not a picture")
    data |= {"root": str(root), "batch_size": 1}
    small["trainer"]["strategy"] = strategy if strategy == "ddp" else {"class_path": strategy}
    (here / f"{strategy}.yaml").write_text(yaml.safe_dump(small))

    ended = octavius(here, "-m", "octavius", "fit", "--config", f"{strategy}.yaml")
    assert ended.returncode == 2, ended.stderr[-3000:]
    assert f"{picture.name} is not an image that can be read" in ended.stderr
    assert "Traceback" not in ended.stderr


@contextmanager
def started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A run of `octavius` in a process group of its own, of which nothing outlives the test."""
    run = subprocess.Popen(
        [sys.executable, "-m", "octavius", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell without job control starts its children with Ctrl-C switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with run:
        try:
            yield run
        finally:
            if alive(run.pid):
                os.killpg(run.pid, signal.SIGKILL)


def alive(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("whom", ["the main process", "every process"])
def test_sigterm_ends_all_processes_after_one_step_and_keeps_the_training(here: Path, whom: str) -> None:
    """As a scheduler sends it: to the process that it started, or to all that it finds, data workers too."""
    small = ["--config", "small.yaml", "--trainer.strategy", "ddp", "--trainer.max_epochs", "9999"]
    steady = ["--data.init_args.workers", "1", "--trainer.limit_val_batches", "0"]
    place = ["--checkpoint.dirpath", f"ended-{whom[:4]}", "--checkpoint.every_n_train_steps", "20"]
    checkpoint = here / f"ended-{whom[:4]}" / "last.ckpt"
    end = time.monotonic() + 400
    with started(here, "fit", *small, *steady, *place) as run:
        while not checkpoint.is_file():
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.02)
        send = os.kill if whom == "the main process" else os.killpg
        send(run.pid, signal.SIGTERM)
        printed, _ = run.communicate(timeout=120)
        assert run.returncode == 130, printed
        assert "Traceback" not in printed
        assert "go on with: octavius fit --ckpt " in printed
        assert torch.load(checkpoint, weights_only=True)["global_step"] >= 20
        while alive(run.pid):  # data workers look for their parent every few seconds
            assert time.monotonic() < end
            time.sleep(0.2)
