"""Runs of several processes: how they are started and watched, and how FSDP2 spreads a model over them."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import lightning as L
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.core.optimizer import LightningOptimizer
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

from octavius.interrupts import INTERRUPTS
from octavius.weights import read_checkpoint

NOTICED = 3.0
"""Seconds that the first process has to notice by itself, through a broken connection, that another one has ended."""


class Launcher(_SubprocessScriptLauncher):
    """Starts the further processes of a run as Lightning does, and ends it in order when one of them has ended.

    Lightning kills the first process at once then: without a checkpoint, a word, or an end of its data workers.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: L.Trainer | None = None,  # noqa: ARG002 - Lightning's signature
        **options: Any,
    ) -> Any:
        """Starts the processes, then calls the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            Thread(target=self._watch, daemon=True, name="processes").start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **options)

    def _watch(self) -> None:
        """Waits until all processes have ended well, or one has not."""
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
    """Gives a trainer that starts processes our way of doing so."""
    launcher = trainer.strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        trainer.strategy._launcher = Launcher(
            launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
        )


class FSDP2(ModelParallelStrategy):
    """Shards the decoder over all processes; `octavius.sharding.shard` says which parts.

    Checkpoints are those of a single process, to the last key, so that any number of processes, sharded or
    not, goes on from them. Only what is trained is gathered for one; the frozen decoder never is.
    """

    def __init__(self) -> None:
        """Takes nothing: the processes that the trainer starts are the data-parallel group."""
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: Lightning hands over the optimizer's state once the model is checked and loaded."""
        return True

    def setup_environment(self) -> None:
        """Sets the data-parallel size to the number of processes, now that it is known."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The trained tensors, whole, on the first process; nothing on the others."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state as one process has it: whole tensors under the places of their parameters."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state = optimizer.state_dict()
        gathered = {
            place: {key: self._whole(value) for key, value in values.items()}
            for place, values in state["state"].items()
        }
        return {**state, "state": gathered} if self.is_global_zero else {}

    def load_checkpoint(
        self,
        checkpoint_path: str | Path,
        weights_only: bool | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Reads a checkpoint of any number of processes; nothing is put in place before it is checked."""
        return read_checkpoint(Path(self.broadcast(checkpoint_path)))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:  # noqa: ARG002
        """Gives every process its part of the trained tensors."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Gives every process its part of the optimizer's state."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                place: {key: part(value, parameters[place]) for key, value in values.items()}
                for place, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": parts})

    def _whole(self, value: Any) -> Any:
        """A tensor put together from all processes, kept by the first alone; anything else as it is."""
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if not isinstance(value, Tensor):
            return value
        return value.cpu() if self.is_global_zero else None


def part(value: Any, parameter: Tensor) -> Any:
    """This process's part of a tensor that belongs to a parameter; anything else as it is."""
    if isinstance(value, Tensor) and isinstance(parameter, DTensor) and value.shape == parameter.shape:
        mesh = parameter.device_mesh
        return distribute_tensor(value.to(parameter.device), mesh, parameter.placements, src_data_rank=None)
    return value
