"""A number of processes comes in, the plan that spreads a model over them goes out: FSDP2 on GPUs or CPUs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from octavius.weights import read_checkpoint


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
