"""Base class of the instruction data modules: resumable training loaders and evenly sharded evaluation loaders."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import lightning as L
from torch.utils.data import DataLoader

from datamodules.examples import EvalSet, EvaluationExamples, TrainingExamples, TrainSet
from datamodules.mixture import MixtureSampler
from octavius.instruction.batch import Batch, Example, Processor
from octavius.instruction.sample import Sample
from octavius.limits import POSITIVE_INT, SEED_RANGE, SIZE_RANGE, WORKERS_RANGE
from octavius.processes import init_worker

Batching: TypeAlias = Literal["padded", "grouped", "packed"]
"""How the training samples of a step are laid out in a batch.

- `padded`: one row per sample, padded on the right to the longest.
- `grouped`: as `padded`, but samples that are close to each other in the sampler's order are regrouped by
  length, which leaves less padding.
- `packed`: the samples that `padded` would batch are concatenated into one row, in which each attends to
  itself only; losses and gradients are those of `padded`.
"""


class InstructionDataModule(L.LightningDataModule):
    """Builds the loaders over the sets that a subclass returns from `train_sets` and `eval_sets`.

    The order of the training samples depends only on the seed and the epoch, not on the number of ranks; a resumed
    run continues with the next batch.

    Attributes:
        blind_ceilings: for each loaded evaluation set of which it is known (`EvalSet.blind_ceiling`), the highest
            headline score of a model that ignores the question.
    """

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
        """Configures the loaders; no data are read.

        Args:
            batch_size: training samples per step and rank.
            eval_batch_size: samples per batch of generation and rank.
            samples_per_epoch: training samples per epoch over all ranks; null takes `default_epoch_size`, which
                is the total size of the training sets unless a subclass changes it.
            workers: worker processes of each loader; 0 loads in the main process.
            seed: seed of the shuffling, of the mixture and of the tasks' random choices (such as the wording
                of a question).
            processor: turns samples into examples for the model; the command line takes it from the model.
            batching: layout of a training batch: `padded`, `grouped` (by length) or `packed` (one row).

        Raises:
            ValueError: a number is out of range.
        """
        SIZE_RANGE.check(batch_size=batch_size, eval_batch_size=eval_batch_size)
        POSITIVE_INT.check(samples_per_epoch=samples_per_epoch)
        WORKERS_RANGE.check(workers=workers)
        SEED_RANGE.check(seed=seed)
        super().__init__()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.samples_per_epoch, self.workers, self.seed = samples_per_epoch, workers, seed
        self.processor, self.batching = processor, batching
        self._sampler: MixtureSampler | None = None
        self._resume: tuple[int, int] | None = None
        self.blind_ceilings: dict[str, float] = {}

    @abstractmethod
    def train_sets(self) -> list[TrainSet]:
        """The training sets, with their weights in the mixture."""

    @abstractmethod
    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The evaluation sets of a stage, `validate` or `test`."""

    def samples_of(self, stage: str) -> Iterator[Sample]:
        """All samples that a stage of the trainer (`fit`, `validate` or `test`) uses, for example to fill a cache."""
        sets: list[TrainSet | EvalSet] = [*self.train_sets()] if stage == "fit" else []
        sets += self.eval_sets("test" if stage == "test" else "validate")
        for item in sets:
            yield from item.samples

    def default_epoch_size(self, sets: Sequence[TrainSet]) -> int:
        """Number of training samples per epoch over all ranks, used if `samples_per_epoch` is null."""
        return sum(len(item.samples) for item in sets)

    def train_dataloader(self) -> DataLoader[Example]:
        """The loader of this rank's share of the sampled mixture."""
        sets, processor = self.train_sets(), self._processor()
        examples = TrainingExamples(sets, processor, self.seed)
        rank, world = rank_and_world(self)
        self._sampler = MixtureSampler(
            sizes=[len(item.samples) for item in sets],
            weights=[item.weight for item in sets],
            length=self.samples_per_epoch or self.default_epoch_size(sets),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=rank,
            world=world,
            orders=[index if item.order is None else item.order for index, item in enumerate(sets)],
            length_of=examples.length if self.batching == "grouped" else None,
        )
        if self._resume is not None:
            self._sampler.resume(*self._resume)
            self._resume = None
        return DataLoader(
            examples,
            self.batch_size,
            sampler=self._sampler,
            drop_last=True,
            **self._loader_options(partial(processor.collate, packed=self.batching == "packed")),
        )

    def val_dataloader(self) -> DataLoader[Example]:
        """The loader of this rank's share of all validation sets, as prompts without answers for generation."""
        return self._eval_dataloader("validate")

    def test_dataloader(self) -> DataLoader[Example]:
        """The loader of this rank's share of all test sets, as prompts without answers for generation."""
        return self._eval_dataloader("test")

    def state_dict(self) -> dict[str, Any]:
        """Epoch and number of its batches that were trained on, so that a resumed run repeats and skips nothing."""
        if self.trainer is None:
            return {}
        loop = self.trainer.fit_loop
        # A checkpoint callback runs in `on_train_batch_end`: by then the batch counts as `processed`, not yet
        # as `completed`.
        progress: Any = loop.epoch_loop.batch_progress.current
        batches = progress.processed
        epoch = max(
            loop.epoch_progress.current.ready - 1, 0
        )  # `ready` counts the epochs that have been started
        # `limit_train_batches` makes an epoch shorter than the sampler's.
        steps = min(
            self.trainer.num_training_batches, float("inf") if self._sampler is None else self._sampler.steps
        )
        epoch_done = batches >= steps
        return {"epoch": epoch + 1 if epoch_done else epoch, "batch": 0 if epoch_done else batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the position saved by `state_dict`; it applies to the next training loader only.

        Raises:
            ValueError: the state does not hold two non-negative integers.
        """
        if not state_dict:
            return
        epoch: Any = state_dict.get("epoch")
        batch: Any = state_dict.get("batch")
        if not all(type(count) is int and count >= 0 for count in (epoch, batch)):
            raise ValueError(
                "expected non-negative integers 'epoch' and 'batch' in the state of the data module, found "
                f"{state_dict!r:.80}"
            )
        self._resume = (epoch, batch)

    def _processor(self) -> Processor:
        if self.processor is None:
            raise ValueError(
                "this data module has no processor; give it `model.processor`, as the command line does"
            )
        return self.processor

    def _loader_options(self, collate: Callable[[list[Example]], Batch]) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "collate_fn": collate,
            "worker_init_fn": init_worker,
            "persistent_workers": self.workers > 0,
        }

    def _eval_dataloader(self, stage: str) -> DataLoader[Example]:
        processor, sets = self._processor(), self.eval_sets(stage)
        data = EvaluationExamples(sets, processor)
        self.blind_ceilings = {
            item.name: item.blind_ceiling for item in sets if item.blind_ceiling is not None
        }
        rank, world = rank_and_world(self)
        return DataLoader(
            data,
            self.eval_batch_size,
            sampler=shard_indices(len(data), rank, world),
            **self._loader_options(processor.collate),
        )


def rank_and_world(module: L.LightningDataModule) -> tuple[int, int]:
    """Rank of this process and number of ranks; (0, 1) without a trainer."""
    return (module.trainer.global_rank, module.trainer.world_size) if module.trainer else (0, 1)


def shard_indices(count: int, rank: int, world: int) -> list[int]:
    """Shards indices 0 to count - 1 round-robin, padding with the first ones so that all ranks get equally many.

    All ranks must run the same number of batches: with FSDP or another sharded model, a rank that has finished would
    leave the others waiting in a collective. The evaluation scores a repeated sample once.

    >>> [shard_indices(5, rank, 3) for rank in range(3)]
    [[0, 3], [1, 4], [2, 0]]
    """
    rounds = -(-count // world)
    return [(rank + turn * world) % count for turn in range(rounds)]
