"""The script for one GPU: stages at tiny sizes, and what its table has of stages that fail or take too long."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def table_of(folder: Path, *words: str) -> list[list[str]]:
    """Runs the script at tiny sizes; returns the cells of its table, without the header."""
    command = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--tiny", "--out", str(folder / "gpu.md")]
    subprocess.run([*command, *words], capture_output=True, check=True, timeout=900)
    lines = (folder / "gpu.md").read_text().splitlines()
    assert lines[0].endswith(f"torch {lines[0].split()[-1]}")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert rows[0] == ["stage", "setting", "variant", "result"]
    return rows[2:]


def test_a_stage_that_takes_too_long_is_stopped_and_the_next_one_runs(tmp_path: Path) -> None:
    rows = table_of(tmp_path, "--stages", "fit", "memory", "--limit", "0.1")
    assert [row[0] for row in rows] == ["fit", "memory"]
    assert all("STOPPED after its limit of 0.1 s" in row for row in rows)


@pytest.mark.slow
def test_every_stage_runs_or_says_why_not(tmp_path: Path) -> None:
    rows = table_of(tmp_path, "--limit", "600")
    ends = {row[0]: row[-2] for row in rows if row[-1].endswith(" s")}
    assert len(ends) == 11
    failed = {stage: end for stage, end in ends.items() if end != "done"}
    assert failed.keys() <= {"quantised bases"}, failed
    assert all("bitsandbytes" in end for end in failed.values())
    assert [row for row in rows if row[0] == "fit" and "tokens/s" in row[-1]]
    assert [
        row for row in rows if row[0] == "FSDP2 on one device" and "losses differ by at most 0.0" in row[-1]
    ]
