"""Data set sizes and weights come in, one seeded plan of batches per epoch goes out, sliced for every rank."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One planned instance: which set, which sample of it, and the epoch whose random choices it takes."""

    source: int
    place: int
    epoch: int


NEAR = 32
"""Steps of the plan within which grouping by length moves instances."""


class MixtureSampler(Sampler[Draw]):
    """Plans each epoch from the seed alone, so that every rank knows the whole plan and takes its own slice.

    Global step k holds the planned instances k * G to (k + 1) * G with G = batch_size * world; rank r takes the
    r-th run of `batch_size` of them. Two processes therefore train on the batches of one process with twice the
    batch. Within a set no sample returns before all have been drawn. Grouped by length, the instances of each
    stretch of `NEAR` steps are dealt out anew, so that those of a step are about as long as each other.
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
        """Takes the mixture.

        Args:
            sizes: samples in each set.
            weights: share of each set, in any scale.
            length: instances in one epoch over all ranks; what does not fill a global batch is left out.
            batch_size: of one rank.
            seed: of the plan.
            rank: of this process.
            world: number of processes.
            orders: which shuffled order each set is gone through in, its place by default.
            length_of: tokens of an instance, to group by; None leaves the instances of a step to chance.

        Raises:
            ValueError: an empty set, a weight that is not positive, or less than one global batch.
        """
        for place, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            if size < 1 or weight <= 0:
                raise ValueError(
                    f"training set {place} has {size} samples and weight {weight}; both must be positive"
                )
        self.group = batch_size * world
        self.steps = length // self.group
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
        """Chooses the epoch to plan; Lightning calls it."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def resume(self, epoch: int, step: int) -> None:
        """Leaves out the first `step` batches of this epoch, once."""
        self.epoch, self.start = epoch, step

    def __len__(self) -> int:
        """Instances of this rank in a whole epoch."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        """This rank's instances, batch after batch."""
        plan = self.plan(self.epoch)
        grouped = -1
        for step in range(self.start, self.steps):
            if self.length_of is not None and step // NEAR != grouped:
                grouped = step // NEAR
                first = grouped * NEAR * self.group
                last = min(first + NEAR * self.group, len(plan))
                plan[first:last] = self.by_length(plan[first:last], grouped)
            first = step * self.group + self.rank * self.batch_size
            yield from plan[first : first + self.batch_size]

    def by_length(self, draws: Sequence[Draw], number: int) -> list[Draw]:
        """The same instances in global batches of like lengths, the batches in a new order.

        Args:
            draws: of some whole steps.
            number: of this stretch of the epoch, from which the order is drawn.
        """
        assert self.length_of is not None
        lengths = [self.length_of(draw) for draw in draws]
        by_length = sorted(range(len(draws)), key=lambda place: (lengths[place], place))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 7919 + number)
        order = torch.randperm(len(draws) // self.group, generator=generator).tolist()
        return [
            draws[place]
            for batch in order
            for place in by_length[batch * self.group : (batch + 1) * self.group]
        ]

    def plan(self, epoch: int) -> list[Draw]:
        """All instances of an epoch over all ranks, in order."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        counts = self._counts()
        sources = torch.cat([torch.full((count,), place) for place, count in enumerate(counts)])
        sources = sources[torch.randperm(len(sources), generator=generator)]
        queues = [self._indices(place, epoch * count, count) for place, count in enumerate(counts)]
        return [Draw(int(source), next(queues[int(source)]), epoch) for source in sources]

    def _counts(self) -> list[int]:
        """Whole instances of each set in an epoch, by largest remainder, so that they add up exactly."""
        total = self.steps * self.group
        exact = [weight / sum(self.weights) * total for weight in self.weights]
        counts = [int(share) for share in exact]
        rest = sorted(range(len(exact)), key=lambda place: counts[place] - exact[place])
        for place in rest[: total - sum(counts)]:
            counts[place] += 1
        return counts

    def _indices(self, place: int, first: int, count: int) -> Iterator[int]:
        """Draws `first` to `first + count` of the endless shuffled run through one set."""
        size = self.sizes[place]
        for cycle in range(first // size, (first + count - 1) // size + 1):
            seed = (self.seed * 7919 + self.orders[place]) * 1_000_003 + cycle
            order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
            begin = max(0, first - cycle * size)
            yield from order[begin : min(size, first + count - cycle * size)].tolist()
