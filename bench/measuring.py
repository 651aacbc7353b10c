"""Steps to compare come in, their times taken in turns, their memory and a Markdown table go out."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def in_turns(steps: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of every step in each of the rounds, in which the steps take turns.

    What else the machine does falls on all alike that way. On a CPU it is the processor time of all threads, to
    which other work adds little, on CUDA the clock until the device is done.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for place in range(warm_up + rounds):
        for name, step in steps.items():
            _wait()
            start = clock()
            step()
            _wait()
            if place >= warm_up:
                taken[name].append(clock() - start)
    return taken


def ratio(taken: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of one step's time by another's."""
    return statistics.median(one / other for one, other in zip(taken, others, strict=True))


def kept_bytes(run: Callable[[], Tensor], model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `run`, other than parameters, buffers and inputs."""
    known = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers(), *inputs)}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # else the address of one that is gone could be given to another

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(kept.values())


def peak_megabytes(step: Callable[[], Any], at_start: float) -> float:
    """The most memory that this process ever held once the step has run, without what it held at the start."""
    step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return _highest() - at_start


def held_megabytes() -> float:
    """What this process holds by now, to call before anything is made."""
    return 0.0 if torch.cuda.is_available() else _highest()


def ask_anew(*arguments: str) -> float:
    """The number that a fresh process of the script under way prints last when it is given these arguments."""
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What the figures were taken on."""
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _highest() -> float:
    """The highest resident set of this process so far."""
    try:  # unlike getrusage, this does not count what the parent held before the process became its own
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 1024
        )
