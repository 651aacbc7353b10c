"""Measured memory of small trainings is within 15 % of the plan."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux to tell the peak of a process"
)
def test_planned_memory_is_what_steps_take() -> None:
    words = [sys.executable, "bench/plan_memory.py", "--sizes", "narrow", "deep, checkpointed"]
    ran = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    ratios = [float(found) for found in re.findall(r"MiB, (\d\.\d+)$", ran.stdout, re.MULTILINE)]
    assert len(ratios) == 2
    assert all(0.85 < ratio < 1.15 for ratio in ratios), ran.stdout


def environment() -> dict[str, str]:
    """One thread, and our own code on the path."""
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
