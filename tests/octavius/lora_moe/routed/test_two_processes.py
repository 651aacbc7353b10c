"""Two processes under torchrun learn what one learns with twice the batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.octavius.lora_moe.routed import two_processes

ROOT = Path(two_processes.__file__).resolve().parents[4]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "checkpointed"])
def test_two_processes_learn_what_one_learns_with_twice_the_batch(tmp_path: Path, kind: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two_processes.run(one, 2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, two_processes.__file__, str(two), kind],
        check=True,
        timeout=400,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    losses = [json.loads((folder / "losses.json").read_text()) for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    states = [load_file(folder / "checkpoint-4" / "model.safetensors") for folder in (one, two)]
    for name, part in states[0].items():
        assert torch.allclose(states[1][name], part, rtol=1e-3, atol=1e-4), name
