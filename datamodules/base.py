"""Training and evaluation sets come in, the loaders that Lightning asks for go out."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import lightning as L
from torch.utils.data import DataLoader

from datamodules.instances import EvalSet, EvaluationInstances, TrainingInstances, TrainSet
from datamodules.mixture import MixtureSampler
from octavius.instruction.batch import Batch, Example, Processor
from octavius.instruction.sample import Sample
from octavius.limits import COUNT, SEED, SIZE, WORKERS
from octavius.processes import serve

Batching: TypeAlias = Literal["padded", "grouped", "packed"]
"""How training instances share a batch.

`padded`: a row for each, as long as the longest. `grouped`: so too, but instances that are near in the plan are dealt
out so that those of a step are of like length. `packed`: the instances of `padded`, several in a row where they fit;
losses and gradients are those of `padded`.
"""


class InstructionDataModule(L.LightningDataModule):
    """Loaders over sets that a subclass names; planned, seeded, resumable, the same on any number of ranks."""

    def __init__(
        self,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
        batching: Batching = "padded",
    ) -> None:
        """Sets the loaders up.

        Args:
            batch_size: training instances in a step on one process.
            eval_batch_size: instances generated at once on one process.
            samples_per_epoch: instances in an epoch over all processes; null is the size of all training sets.
            workers: data worker processes of each loader.
            seed: of the order, of the mixture and of the task's random choices.
            processor: prepares samples for the model; the command line takes it from the model.
            batching: how training instances share a batch; see `Batching`.
        """
        SIZE.check(batch_size=batch_size, eval_batch_size=eval_batch_size)
        COUNT.check(samples_per_epoch=samples_per_epoch)
        WORKERS.check(workers=workers)
        SEED.check(seed=seed)
        super().__init__()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.samples_per_epoch, self.workers, self.seed = samples_per_epoch, workers, seed
        self.processor, self.batching = processor, batching
        self._sampler: MixtureSampler | None = None
        self._resume: tuple[int, int] | None = None

    @abstractmethod
    def train_sets(self) -> list[TrainSet]:
        """The training mixture."""

    @abstractmethod
    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The sets of `validate` or `test`."""

    def samples_of(self, stage: str) -> Iterator[Sample]:
        """Every sample of a stage of the trainer, for what is prepared before any of them is loaded."""
        sets: list[TrainSet | EvalSet] = [*self.train_sets()] if stage == "fit" else []
        sets += self.eval_sets("test" if stage == "test" else "validate")
        for item in sets:
            yield from item.samples

    def whole_epoch(self, sets: Sequence[TrainSet]) -> int:
        """Instances in an epoch over all processes when `samples_per_epoch` says nothing."""
        return sum(len(item.samples) for item in sets)

    def train_dataloader(self) -> DataLoader[Example]:
        """Batches of the planned mixture."""
        sets, processor = self.train_sets(), self._processor()
        instances = TrainingInstances(sets, processor, self.seed)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self._sampler = MixtureSampler(
            [len(item.samples) for item in sets],
            [item.weight for item in sets],
            self.samples_per_epoch or self.whole_epoch(sets),
            self.batch_size,
            self.seed,
            rank,
            world,
            [place if item.order is None else item.order for place, item in enumerate(sets)],
            instances.length if self.batching == "grouped" else None,
        )
        if self._resume is not None:
            self._sampler.resume(*self._resume)
            self._resume = None
        return DataLoader(
            instances,
            self.batch_size,
            sampler=self._sampler,
            drop_last=True,
            **self._loading(partial(processor.collate, packed=self.batching == "packed")),
        )

    def val_dataloader(self) -> DataLoader[Example]:
        """Prompts of all validation sets."""
        return self._eval_dataloader("validate")

    def test_dataloader(self) -> DataLoader[Example]:
        """Prompts of all test sets."""
        return self._eval_dataloader("test")

    def state_dict(self) -> dict[str, Any]:
        """How many batches of which epoch are trained, so that a resumed run sees the rest and nothing twice."""
        if self.trainer is None:
            return {}
        loop = self.trainer.fit_loop
        # `processed` counts a batch before callbacks see its end, `completed` only after they saved.
        progress: Any = loop.epoch_loop.batch_progress.current
        batches = progress.processed
        epoch = max(loop.epoch_progress.current.ready - 1, 0)
        # `limit_train_batches` ends an epoch earlier.
        steps = min(
            self.trainer.num_training_batches, float("inf") if self._sampler is None else self._sampler.steps
        )
        whole = batches >= steps
        return {"epoch": epoch + 1 if whole else epoch, "batch": 0 if whole else batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the position of a checkpoint for the next training loader.

        Raises:
            ValueError: it is none.
        """
        if not state_dict:
            return
        epoch: Any = state_dict.get("epoch")
        batch: Any = state_dict.get("batch")
        if not all(type(count) is int and count >= 0 for count in (epoch, batch)):
            raise ValueError(f"expected how many epochs and batches are done, found {state_dict!r:.80}")
        self._resume = (epoch, batch)

    def _processor(self) -> Processor:
        if self.processor is None:
            raise ValueError(
                "this data module has no processor; give it `model.processor`, as the command line does"
            )
        return self.processor

    def _loading(self, collate: Callable[[list[Example]], Batch]) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "collate_fn": collate,
            "worker_init_fn": serve,
            "persistent_workers": self.workers > 0,
        }

    def _eval_dataloader(self, stage: str) -> DataLoader[Example]:
        processor = self._processor()
        data = EvaluationInstances(self.eval_sets(stage), processor)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            data,
            self.eval_batch_size,
            sampler=even_share(len(data), rank, world),
            **self._loading(processor.collate),
        )


def even_share(count: int, rank: int, world: int) -> list[int]:
    """Every world-th place, as many on each rank: the last round is filled with the first places again.

    Ranks must run the same batches in number, or a sharded model would wait for the rank that is done; the
    evaluation scores each sample once.

    >>> [even_share(5, rank, 3) for rank in range(3)]
    [[0, 3], [1, 4], [2, 0]]
    """
    rounds = -(-count // world)
    return [(rank + turn * world) % count for turn in range(rounds)]
