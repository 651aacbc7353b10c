"""Multi-process training: a launcher that shuts a run down in order, and FSDP2 for Lightning."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import lightning as L
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from octavius.checkpoint_format.weights import read_checkpoint
from octavius.interrupts import INTERRUPTS

NOTICED = 3.0
"""Seconds that rank 0 gets to notice by itself, through a broken connection, that another rank has ended."""


class Launcher(_SubprocessScriptLauncher):
    """Lightning's subprocess launcher, but a rank that dies ends the run in order.

    Lightning kills rank 0 at once in this case: no checkpoint, no message, and orphaned data workers.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: L.Trainer | None = None,  # noqa: ARG002 - Lightning's signature
        **options: Any,
    ) -> Any:
        """Starts the other ranks, then calls the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            Thread(target=self._watch, daemon=True, name="processes").start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **options)

    def _watch(self) -> None:
        """Polls the other ranks until all have exited with status 0, or one has failed."""
        while not any(process.poll() for process in self.procs):
            if all(process.poll() is not None for process in self.procs):
                return
            time.sleep(0.2)
        rank, code = next((rank, one.returncode) for rank, one in enumerate(self.procs, 1) if one.returncode)
        time.sleep(NOTICED)
        if code < 0:
            INTERRUPTS.lost(f"process {rank} of this run was killed by signal {-code}", 2)
        else:
            INTERRUPTS.lost(f"process {rank} of this run ended; what it said stands above", code)


def watch_processes(trainer: L.Trainer) -> None:
    """Replaces Lightning's subprocess launcher by ours, if the trainer starts processes."""
    launcher = trainer.strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        trainer.strategy._launcher = Launcher(
            launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
        )


class FSDP2(ModelParallelStrategy):
    """Shards the decoder over all ranks; `octavius.distributed.sharding.shard` says which parts.

    Checkpoints have the same keys as those of a single process, so any number of ranks, sharded or not, can
    resume from them. Only trained tensors are gathered for a checkpoint, never the frozen decoder.
    """

    def __init__(self) -> None:
        """Takes no options: all processes of the trainer form the data-parallel group."""
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: Lightning passes the optimizer state after the model has been checked and loaded."""
        return True

    def setup_environment(self) -> None:
        """Sets the data-parallel size to the number of processes, which is known only now."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The full trained tensors on rank 0; empty on the others."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer state as a single process has it, on rank 0: full tensors, keyed by parameter index."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state = optimizer.state_dict()
        gathered = {
            index: {key: self._whole(value) for key, value in values.items()}
            for index, values in state["state"].items()
        }
        return {**state, "state": gathered} if self.is_global_zero else {}

    def load_checkpoint(
        self,
        checkpoint_path: str | Path,
        weights_only: bool | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Reads a checkpoint of any number of ranks, and restores nothing yet: it is checked first."""
        path, files = Path(self.broadcast(checkpoint_path)), self.checkpoint_io
        # The command line's plugin has opened it already; Lightning's own would read it without our checks.
        return read_checkpoint(path) if type(files) is TorchCheckpointIO else files.load_checkpoint(path)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:  # noqa: ARG002
        """Loads the trained tensors; each rank keeps its shard."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads the optimizer state; each rank keeps its shard."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                index: {key: part(value, parameters[index]) for key, value in values.items()}
                for index, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": parts})

    def _whole(self, value: Any) -> Any:
        """Gathers a sharded tensor on rank 0 (collective, None elsewhere); returns anything else unchanged."""
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if not isinstance(value, Tensor):
            return value
        return value.cpu() if self.is_global_zero else None


def part(value: Any, parameter: Tensor) -> Any:
    """This rank's shard of a tensor that belongs to a parameter; returns anything else unchanged."""
    if isinstance(value, Tensor) and isinstance(parameter, DTensor) and value.shape == parameter.shape:
        mesh = parameter.device_mesh
        return distribute_tensor(value.to(parameter.device), mesh, parameter.placements, src_data_rank=None)
    return value
