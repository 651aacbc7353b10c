"""Steps to compare come in, their times taken in turns, their memory and a Markdown table go out."""

import multiprocessing
import resource
import statistics
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


def spread(taken: Sequence[float], others: Sequence[float]) -> str:
    """Between which values the middle half of these ratios lies, for a table."""
    low, _, high = statistics.quantiles(
        [one / other for one, other in zip(taken, others, strict=True)], method="inclusive"
    )
    return f"{low:.2f} to {high:.2f}"


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


def in_new_process(run: Callable[..., float], *arguments: Any) -> float:
    """What a script's function returns in a process of its own, that comes with nothing but imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["octavius.lora_moe", "peft"]
    )  # as these take longer than what is measured
    with context.Pool(1) as pool:
        return pool.apply(run, arguments)


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
