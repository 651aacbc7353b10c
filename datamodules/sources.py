"""A source of a data module: one split of one benchmark."""

from dataclasses import dataclass

from datamodules.benchmarks import BENCHMARKS
from octavius.limits import POSITIVE_INT, POSITIVE_NUMBER
from octavius.metrics import Protocol
from octavius.suggestions import nearest


@dataclass(frozen=True)
class Source:
    """One split of one benchmark.

    Attributes:
        benchmark: the benchmark's reader, a key of `datamodules.benchmarks.BENCHMARKS`.
        split: name of the split in the data set, such as `train2017`.
        folder: folder of the data set, relative to the data module's root.
        weight: relative weight in the training mixture.
        name: name in logs and tables; the benchmark's by default.
        limit: use only this many samples, a random subset that is the same in every run; null uses all.
        unseen_wording: ask in wordings that training never draws (evaluation only).
        protocol: how 3D answers are scored: `standard` as by the data sets' own evaluators, `published` as
            the paper's numbers were computed (evaluation only).
    """

    benchmark: str
    split: str
    folder: str = "."
    weight: float = 1.0
    name: str = ""
    limit: int | None = None
    unseen_wording: bool = False
    protocol: Protocol = "standard"

    def __post_init__(self) -> None:
        """Validates the settings before any file is read."""
        if self.benchmark not in BENCHMARKS:
            raise ValueError(
                f"unknown benchmark {self.benchmark!r}{nearest(self.benchmark, BENCHMARKS)}; known ones are "
                f"{', '.join(sorted(BENCHMARKS))}"
            )
        if not self.weight > 0:
            raise ValueError(f"the weight of {self.title} should be positive, found {self.weight}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"the limit of {self.title} should be at least 1 or null, found {self.limit}")
        POSITIVE_NUMBER.check(**{f"the weight of {self.title}": self.weight})
        POSITIVE_INT.check(**{f"the limit of {self.title}": self.limit})

    @property
    def title(self) -> str:
        """The name in logs and tables."""
        return self.name or self.benchmark
