"""Sampler of a weighted mixture of data sets, deterministic and independent of the number of ranks."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """A drawn sample: the index of its set, its index there, and the epoch that seeds its random choices."""

    source: int
    sample_index: int
    epoch: int


STEPS_TO_GROUP = 32
"""Number of successive steps whose samples are regrouped by length."""


class MixtureSampler(Sampler[Draw]):
    """Samples a weighted mixture of data sets, deterministically and identically for any number of ranks.

    The order of an epoch is a function of (seed, epoch). Every rank computes all of it and takes its own
    slice: global step k holds the samples k * G to (k + 1) * G with G = batch_size * world, of which
    rank r takes the r-th `batch_size`. Two ranks therefore see the batches of one rank with twice the batch
    size. Within a set, sampling is without replacement, also across epochs.

    If `length_of` is given, the samples of `STEPS_TO_GROUP` successive steps are sorted into global batches of
    similar length.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        orders: Sequence[int] | None = None,
        length_of: Callable[[Draw], int] | None = None,
    ) -> None:
        """Validates and stores the mixture.

        Args:
            sizes: number of samples of each set.
            weights: relative weight of each set.
            length: samples per epoch over all ranks; an incomplete last global batch is dropped.
            batch_size: samples per step and rank.
            seed: seed of the order.
            rank: rank of this process.
            world: number of ranks.
            orders: for each set a number that seeds its shuffling; its index by default.
            length_of: number of tokens of a sample, to group by; None disables grouping.

        Raises:
            ValueError: a set is empty, a weight is not positive, or the epoch has less than one global batch.
        """
        for index, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            if size < 1 or weight <= 0:
                raise ValueError(
                    f"training set {index} has {size} samples and weight {weight}; both must be positive"
                )
        self.global_batch = batch_size * world
        self.steps = length // self.global_batch
        if self.steps < 1:
            raise ValueError(
                f"an epoch of {length} samples does not fill one batch of {batch_size} on {world} process(es); "
                "lower batch_size or raise samples_per_epoch"
            )
        self.sizes, self.weights = list(sizes), [float(weight) for weight in weights]
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.orders = list(range(len(sizes)) if orders is None else orders)
        self.length_of = length_of
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch; called by Lightning."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def resume(self, epoch: int, step: int) -> None:
        """Starts the given epoch at batch `step`; later epochs start at their first batch."""
        self.epoch, self.start = epoch, step

    def __len__(self) -> int:
        """Samples of this rank per epoch; a resumed epoch yields fewer."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        """Yields this rank's samples, batch after batch."""
        plan = self.plan(self.epoch)
        grouped = -1
        for step in range(self.start, self.steps):
            # Steps are regrouped when the first of them is reached: measuring tokenizes each sample, which should not
            # delay step 0.
            if self.length_of is not None and step // STEPS_TO_GROUP != grouped:
                grouped = step // STEPS_TO_GROUP
                first = grouped * STEPS_TO_GROUP * self.global_batch
                last = min(first + STEPS_TO_GROUP * self.global_batch, len(plan))
                plan[first:last] = self.by_length(plan[first:last], grouped)
            first = step * self.global_batch + self.rank * self.batch_size
            yield from plan[first : first + self.batch_size]

    def by_length(self, draws: Sequence[Draw], number: int) -> list[Draw]:
        """Regroups samples into global batches of similar length, and shuffles these batches.

        Args:
            draws: samples of some whole steps.
            number: index of these steps in the epoch, which seeds the shuffling.
        """
        assert self.length_of is not None
        lengths = [self.length_of(draw) for draw in draws]
        by_length = sorted(range(len(draws)), key=lambda index: (lengths[index], index))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 7919 + number)
        order = torch.randperm(len(draws) // self.global_batch, generator=generator).tolist()
        return [
            draws[index]
            for batch in order
            for index in by_length[batch * self.global_batch : (batch + 1) * self.global_batch]
        ]

    def plan(self, epoch: int) -> list[Draw]:
        """All samples of an epoch over all ranks, in order and not yet grouped by length."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        counts = self._counts()
        sources = torch.cat([torch.full((count,), index) for index, count in enumerate(counts)])
        sources = sources[torch.randperm(len(sources), generator=generator)]
        queues = [self._indices(index, epoch * count, count) for index, count in enumerate(counts)]
        return [Draw(int(source), next(queues[int(source)]), epoch) for source in sources]

    def _counts(self) -> list[int]:
        """Samples of each set per epoch, rounded by the largest-remainder method so that they add up to the epoch."""
        total = self.steps * self.global_batch
        exact = [weight / sum(self.weights) * total for weight in self.weights]
        counts = [int(share) for share in exact]
        rest = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
        for index in rest[: total - sum(counts)]:
            counts[index] += 1
        return counts

    def _indices(self, index: int, first: int, count: int) -> Iterator[int]:
        """Items `first` to `first + count` of the endless concatenation of the set's shuffled passes."""
        size = self.sizes[index]
        for cycle in range(first // size, (first + count - 1) // size + 1):
            # Multiplied by primes, so that sets, cycles and neighbouring seeds do not share an order.
            seed = (self.seed * 7919 + self.orders[index]) * 1_000_003 + cycle
            order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
            begin = max(0, first - cycle * size)
            yield from order[begin : min(size, first + count - cycle * size)].tolist()
