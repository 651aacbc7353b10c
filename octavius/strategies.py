"""A number of processes comes in, the plan that spreads a model over them goes out: FSDP2 on GPUs or CPUs."""

from lightning.pytorch.strategies import ModelParallelStrategy


class FSDP2(ModelParallelStrategy):
    """Shards the decoder over all processes; checkpoints are whole, so that one process can load them.

    `octavius.sharding.shard` says which parts are sharded; frozen encoders stay whole on every process.
    """

    def __init__(self) -> None:
        """Takes nothing: the processes that the trainer starts are the data-parallel group."""
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Sets the data-parallel size to the number of processes, now that it is known."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
