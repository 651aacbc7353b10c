"""Checks and measures Octavius on one GPU in about ten minutes, without network, data or weights.

    python bench/gpu.py --out gpu.md

Prints one Markdown table: the tests that need CUDA; a LoRA-MoE layer, training steps and generation in bfloat16
beside other adapters (one layer of LLaMA-7B, all of SmolLM2-135M, random weights); padded, grouped and packed
batches; bases in nf4 and int8; the memory that `octavius plan` predicts; FSDP2 on one device; and the model FLOPs
utilisation of `octavius fit`. Every stage runs in a process of its own with a time limit. If it fails or runs out
of time, the table has what it measured before, and the reason. The tests need what `make test` installs, the
quantised bases bitsandbytes. `--tiny` tries the script out with tiny sizes, also on a CPU.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from measuring import machine, table

HERE = Path(__file__).resolve().parent
LIMITS = {
    "tests": 80,
    "layer": 50,
    "step of a LLaMA-7B layer": 60,
    "step of SmolLM2": 70,
    "generation of a LLaMA-7B layer": 50,
    "generation of SmolLM2": 70,
    "batches": 40,
    "quantised bases": 50,
    "memory": 50,
    "FSDP2 on one device": 40,
    "fit": 40,
}
"""Stages of `gpu_stages.py`, and the seconds that each may take, ten minutes in all."""


def run_stage(name: str, tiny: bool, limit: float) -> list[Sequence[str]]:
    """Runs a stage in a new process; its last row says how it ended.

    Args:
        name: one of `LIMITS`.
        tiny: whether to take tiny sizes.
        limit: seconds after which it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, said = Path(folder, "rows"), Path(folder, "said")
        words = [sys.executable, "-W", "ignore", str(HERE / "gpu_stages.py"), name, str(rows)]
        paths = os.pathsep.join([str(HERE.parent), os.getenv("PYTHONPATH", "")])
        start = time.monotonic()
        with said.open("w") as output:
            process = subprocess.Popen(
                words + ["--tiny"] * tiny,
                cwd=HERE.parent,
                env={**os.environ, "PYTHONPATH": paths},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(limit)
                end = "done" if code == 0 else f"FAILED with status {code}: {last_line(said)}"
            except subprocess.TimeoutExpired:
                end = f"STOPPED after its limit of {limit:g} s"
            finally:
                with suppress(
                    ProcessLookupError
                ):  # also its own processes, which would disturb the next stage
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        measured = rows.read_text().splitlines() if rows.exists() else []
        return [*(json.loads(line) for line in measured), ("", end, f"{time.monotonic() - start:.0f} s")]


def last_line(path: Path) -> str:
    """The last line of a stage's output, which after an error is its message."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def main(words: Sequence[str]) -> None:
    """Runs the stages one after another and prints the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--stages", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes and few tests")
    parser.add_argument("--limit", type=float, help="seconds for each stage, instead of its own limit")
    parser.add_argument("--out", type=Path, help="a file for the table, which is printed in any case")
    options = parser.parse_args(words)
    lines: list[list[str]] = []
    for name in options.stages:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = run_stage(name, options.tiny, options.limit or LIMITS[name])
        lines += [[name, *(cell.replace("|", "\\|") for cell in row)] for row in found]
        if options.out:  # after each stage, so that what was measured is kept if this process is killed
            options.out.write_text(report(lines))
    print(report(lines))


def report(lines: Sequence[Sequence[str]]) -> str:
    """The table, below the name of the machine."""
    return f"{machine()}\n\n{table(['stage', 'setting', 'variant', 'result'], lines)}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
