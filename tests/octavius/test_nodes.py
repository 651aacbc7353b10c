"""Two nodes of one process each, started by torchrun: losses of one process, the death of a node, and resuming."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.tiny import ROOT, settings, write_models

pytestmark = pytest.mark.slow

IN_TIME = 600.0
"""Seconds after which a run is taken to hang."""


@pytest.fixture(scope="module")
def small(miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = settings(write_models(tmp_path_factory.mktemp("models")), miniature_root)
    found["model"]["init_args"]["lora"]["dropout"] = 0.0  # each process draws masks of its own
    found["trainer"] |= {"limit_val_batches": 0, "log_every_n_steps": 1}
    found["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs", "name": "run"}}
    return found


@contextmanager
def node(folder: Path, rank: int, port: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A node in a process group of its own, with the command of `docs/scale.md`."""
    torchrun = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank)]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    options = ["--trainer.num_nodes", "2", "--trainer.devices", "1"]
    run = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *torchrun, "-m", "octavius", "fit", *words, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=(folder / f"node{rank}.txt").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        for group in (run.pid, *workers(run.pid)):  # torchrun starts its workers in sessions of their own
            kill(group)
        run.wait()


def workers(parent: int) -> list[int]:
    """Process ids of the children of a process."""
    found = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def kill(group: int) -> None:
    """Kills a process and its group, as a node that loses its power."""
    for end in (os.killpg, os.kill):
        try:
            end(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def losses(folder: Path) -> list[float]:
    """The losses of the latest run in a folder."""
    [*_, latest] = sorted((folder / "logs" / "run").glob("version_*/metrics.csv"))
    rows = csv.DictReader(latest.read_text().splitlines())
    return [float(row["train/loss"]) for row in rows if row.get("train/loss")]


def write(folder: Path, small: dict[str, Any], **data: Any) -> None:
    found = {**small, "data": {**small["data"], "init_args": {**small["data"]["init_args"], **data}}}
    (folder / "small.yaml").write_text(yaml.safe_dump(found))


def said(folder: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("node*.txt")))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp.yaml"])
def test_two_nodes_have_the_losses_of_one_process(
    tmp_path: Path, small: dict[str, Any], strategy: str
) -> None:
    words = ["--config", "small.yaml"]
    words += ["--config", strategy] if strategy.endswith(".yaml") else ["--trainer.strategy", strategy]
    two, one, port = tmp_path / "two", tmp_path / "one", free_port()
    for folder, batch in ((two, 2), (one, 4)):
        folder.mkdir()
        write(folder, small, batch_size=batch, samples_per_epoch=16)
    with ExitStack() as stack:
        for run in [stack.enter_context(node(two, rank, port, *words)) for rank in (0, 1)]:
            assert run.wait(IN_TIME) == 0, said(two)
    subprocess.run(
        [sys.executable, "-m", "octavius", "fit", "--config", "small.yaml"],
        cwd=one,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=IN_TIME,
    )
    assert len(losses(one)) == 4
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


def test_a_node_that_dies_ends_the_other_and_one_process_resumes(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    write(tmp_path, small, batch_size=2, samples_per_epoch=4000)
    words = ["--config", "small.yaml", "--trainer.strategy", "ddp"]
    words += ["--checkpoint.every_n_train_steps", "10"]
    checkpoint, port, end = tmp_path / "checkpoints" / "last.ckpt", free_port(), time.monotonic() + IN_TIME
    with ExitStack() as stack:
        first, second = [stack.enter_context(node(tmp_path, rank, port, *words)) for rank in (0, 1)]
        while not checkpoint.is_file():
            assert first.poll() is None, said(tmp_path)
            assert time.monotonic() < end
            time.sleep(0.1)
        for group in (*workers(second.pid), second.pid):
            kill(group)
        assert first.wait(60) != 0
    step = torch.load(checkpoint, weights_only=True)["global_step"]
    resume = ["--ckpt", "last.ckpt", "--trainer.devices", "1", "--trainer.num_nodes", "1"]
    resume += ["--data.init_args.batch_size", "4", "--trainer.max_steps", str(step + 3)]
    resume += ["--checkpoint.every_n_train_steps", "1"]
    subprocess.run(
        [sys.executable, "-m", "octavius", "fit", *resume],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=IN_TIME,
    )
    assert torch.load(checkpoint, weights_only=True)["global_step"] == step + 3
