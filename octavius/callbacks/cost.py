"""Callback that measures time and memory of a training."""

import json
import multiprocessing
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from octavius.callbacks.board import log_folder
from octavius.files import write_text

COST = "cost.json"
GIB = 2**30
EVERY = 16
"""Steps between two measurements of the data workers."""


class Cost(L.Callback):
    """Writes `cost.json` at the end of training; a run resumed from a checkpoint is counted as one.

    - `seconds`: from the first step to the end, including evaluations but not the preparation before it, nor
      what was lost when a process was killed.
    - `memory_gib`: peak resident memory of the training process plus peak private memory of its data workers,
      summed over ranks.
    - `gpu_memory_gib`: peak memory of tensors on any one GPU; only with GPUs.
    """

    def __init__(self) -> None:
        """Starts with all counts at zero."""
        self._before = 0.0
        self._begun: float | None = None
        self._memory = self._workers = self._gpu = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return self._before + (0.0 if self._begun is None else time.monotonic() - self._begun)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Starts the clock."""
        self._begun = time.monotonic()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_end(self, *hook: Any) -> None:
        """Measures the data workers every `EVERY` steps."""
        if hook[-1] % EVERY == 0:
            self._workers = max(self._workers, workers_memory())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Measures the data workers, which now include those of the evaluation."""
        self._workers = max(self._workers, workers_memory())

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reduces over all ranks and writes the file."""
        self._measure(pl_module.device)
        found = {"seconds": self.seconds, "memory_gib": self._memory, "gpu_memory_gib": self._gpu}
        together = {"seconds": "max", "memory_gib": "sum", "gpu_memory_gib": "max"}
        for key, how in together.items():
            value = torch.tensor(found[key], device=pl_module.device)
            found[key] = float(trainer.strategy.reduce(value, reduce_op=how))
        if pl_module.device.type != "cuda":
            del found["gpu_memory_gib"]
        folder = log_folder(trainer)
        if folder is not None and trainer.is_global_zero:
            write_text(folder / COST, json.dumps({"steps": trainer.global_step, **found}, indent=1) + "\n")

    def state_dict(self) -> dict[str, float]:
        """The totals so far, for the checkpoint (those of rank 0)."""
        self._measure(torch.device("cuda" if torch.cuda.is_initialized() else "cpu"))
        return {"seconds": self.seconds, "memory": self._memory, "gpu": self._gpu}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continues from the totals of the resumed run."""
        self._before, self._memory, self._gpu = (state_dict[key] for key in ("seconds", "memory", "gpu"))

    def _measure(self, device: torch.device) -> None:
        self._memory = max(self._memory, peak_memory() + self._workers)
        if device.type == "cuda":
            self._gpu = max(self._gpu, torch.cuda.max_memory_allocated() / GIB)


def peak_memory() -> float:
    """Peak resident memory of this process in GiB."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / GIB

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, in KiB elsewhere
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def workers_memory() -> float:
    """Private (unshared) memory of this process's children in GiB; 0 outside Linux."""
    total = 0
    for child in multiprocessing.active_children():
        try:
            text = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
        except OSError:  # the child has ended, or this is not Linux
            continue
        total += sum(int(size) for size in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", text))
    return total * 1024 / GIB
