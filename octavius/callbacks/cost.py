"""Training runs by, the time and the memory that it took go out, into the checkpoint and beside the logs."""

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
"""Steps between two looks at the data workers."""


class Cost(L.Callback):
    """Writes `cost.json` when a training is done; a training in several parts counts as one.

    - `seconds`: from the first step to the end, evaluations included, without what is prepared before it. What
      was lost with a process that was killed is not in it.
    - `memory_gib`: most main memory that the training process held at any time, and what its data workers held
      for themselves alone; of all processes together.
    - `gpu_memory_gib`: most memory that tensors took on one GPU; only where there is one.
    """

    def __init__(self) -> None:
        """Starts from nothing."""
        self._before = 0.0
        self._begun: float | None = None
        self._memory = self._workers = self._gpu = 0.0

    @property
    def seconds(self) -> float:
        """Time of training so far."""
        return self._before + (0.0 if self._begun is None else time.monotonic() - self._begun)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Starts the clock."""
        self._begun = time.monotonic()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_end(self, *hook: Any) -> None:
        """Looks at the data workers now and then."""
        if hook[-1] % EVERY == 0:
            self._workers = max(self._workers, workers_memory())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Looks at the data workers, among which are those of the evaluation now."""
        self._workers = max(self._workers, workers_memory())

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what the training took."""
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
        """What it took so far, for the checkpoint; of several processes that of the first."""
        self._measure(torch.device("cuda" if torch.cuda.is_initialized() else "cpu"))
        return {"seconds": self.seconds, "memory": self._memory, "gpu": self._gpu}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Goes on from what it took before."""
        self._before, self._memory, self._gpu = (state_dict[key] for key in ("seconds", "memory", "gpu"))

    def _measure(self, device: torch.device) -> None:
        self._memory = max(self._memory, peak_memory() + self._workers)
        if device.type == "cuda":
            self._gpu = max(self._gpu, torch.cuda.max_memory_allocated() / GIB)


def peak_memory() -> float:
    """Most main memory that this process held so far, in GiB."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def workers_memory() -> float:
    """What the children of this process hold that no other process shares, in GiB; 0 where Linux does not tell."""
    total = 0
    for child in multiprocessing.active_children():
        try:
            text = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
        except OSError:  # it has ended, or this is not Linux
            continue
        total += sum(int(size) for size in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", text))
    return total * 1024 / GIB
