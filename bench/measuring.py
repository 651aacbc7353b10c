"""Helpers of the benchmarks: interleaved timing, memory saved by autograd, peak memory, and Markdown tables."""

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
    """Times steps in interleaved rounds, so that other load on the machine affects all alike.

    Returns:
        Seconds of each step in each round: on a CPU the process time of all threads, which other processes affect
        little; on CUDA the wall-clock time until the device is done.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for index in range(warm_up + rounds):
        for name, step in steps.items():
            _wait()
            start = clock()
            step()
            _wait()
            if index >= warm_up:
                taken[name].append(clock() - start)
    return taken


def ratio(taken: Sequence[float], others: Sequence[float]) -> float:
    """Median over rounds of the ratio of one step's time to another's."""
    return statistics.median(one / other for one, other in zip(taken, others, strict=True))


def spread(taken: Sequence[float], others: Sequence[float]) -> str:
    """Interquartile range of these ratios, as text for a table."""
    low, _, high = statistics.quantiles(
        [one / other for one, other in zip(taken, others, strict=True)], method="inclusive"
    )
    return f"{low:.2f} to {high:.2f}"


def kept_bytes(run: Callable[[], Tensor], model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Bytes that autograd saves for the backward pass of `run`, except parameters, buffers and inputs."""
    known = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers(), *inputs)}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # a freed tensor's address could be reused by another

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()  # views of one tensor count once
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(kept.values())


def peak_megabytes(step: Callable[[], Any], at_start: float) -> float:
    """Peak memory of this process in MiB after running the step, minus what it held at the start."""
    step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return _highest() - at_start


def held_megabytes() -> float:
    """Memory in MiB that this process holds; to be called before anything is built."""
    return 0.0 if torch.cuda.is_available() else _highest()


def in_new_process(run: Callable[..., float], *arguments: Any) -> float:
    """Runs a function of a script in a fresh process that has only done its imports."""
    context = multiprocessing.get_context("forkserver")
    # Imported once in the server, since that takes longer than what is measured.
    context.set_forkserver_preload(["octavius.lora_moe", "peft"])
    with context.Pool(1) as pool:
        return pool.apply(run, arguments)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Device, threads and PyTorch version, for the heading of a table."""
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _highest() -> float:
    """Highest resident set size of this process so far, in MiB."""
    try:  # unlike getrusage, VmHWM excludes what the parent held at the fork
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 1024
        )
