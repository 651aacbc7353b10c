"""Names of benchmarks and their folders come in, the sets to train on and to evaluate go out, read from files."""

import random
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from datamodules.base import Batching, InstructionDataModule
from datamodules.benchmarks import BENCHMARKS, read
from datamodules.instances import EvalSet, TrainSet
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Sample
from octavius.limits import COUNT, POSITIVE, Range
from octavius.metrics import Protocol


@dataclass(frozen=True)
class Source:
    """One split of one benchmark.

    Attributes:
        benchmark: its reader, a key of `datamodules.benchmarks.BENCHMARKS`.
        split: as the data set calls it, for example `train2017`.
        folder: where it lies below the data module's root.
        weight: its share of the training mixture, in any scale.
        name: its name in logs and tables; empty takes the benchmark's.
        limit: keeps so many samples, drawn by chance, the same ones in every run; null keeps all.
        unseen_wording: asks in forms that training never draws (evaluation only).
        protocol: scores 3D answers as the data sets' own evaluators do, or as the paper's numbers came about
            (evaluation only).
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
        """Refuses what can be seen to be wrong before any file is read."""
        if self.benchmark not in BENCHMARKS:
            raise ValueError(
                f"unknown benchmark {self.benchmark!r}; known ones are {', '.join(sorted(BENCHMARKS))}"
            )
        if not self.weight > 0:
            raise ValueError(f"the weight of {self.title} should be positive, found {self.weight}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"the limit of {self.title} should be at least 1 or null, found {self.limit}")
        POSITIVE.check(**{f"the weight of {self.title}": self.weight})
        COUNT.check(**{f"the limit of {self.title}": self.limit})

    @property
    def title(self) -> str:
        """The name in logs and tables."""
        return self.name or self.benchmark


MOST_DECIMALS = 6


class SourceInstructions(InstructionDataModule):
    """Instruction data of files: benchmarks mixed by weight for training, set after set for evaluation.

    Annotation files are read once, when their loader is first asked for; media only in the workers.

    Attributes:
        option: where its settings stand in a configuration, for messages.
    """

    option = "data.init_args"

    def __init__(
        self,
        root: str,
        train: list[Source] | None = None,
        validate: list[Source] | None = None,
        test: list[Source] | None = None,
        miniature: bool = False,
        bad: Literal["error", "skip"] = "error",
        batch_size: int = 16,
        eval_batch_size: int = 64,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
        batching: Batching = "padded",
        box_decimals: int = 2,
    ) -> None:
        """Names the data; no file is touched.

        Args:
            root: folder of the data; the folders of all sources are relative to it.
            train: what to train on.
            validate: what to evaluate at each epoch's end.
            test: what to test on.
            miniature: writes the miniature to `root` first, when it is not there.
            bad: `error` stops at a bad item of an annotation file, and at a sample that cannot be read when it is
                drawn; `skip` leaves bad items out and warns, lets another sample stand in for one that is drawn,
                and leaves it out of the scores of an evaluation.
            batch_size: training instances in a step on one process.
            eval_batch_size: instances generated at once on one process.
            samples_per_epoch: instances in an epoch over all processes; null counts all training sets.
            workers: data worker processes of each loader.
            seed: of the order, of the mixture and of the tasks' random choices; the miniature has its own.
            processor: prepares samples for the model; the command line takes it from the model.
            batching: `padded` gives each training instance a row, `grouped` puts those of like length together,
                `packed` puts all of a step into one row.
            box_decimals: with how many the answers say the numbers of boxes, 1 to 6. Two are 1 % of a picture, or a
                centimetre. Right answers to COCO reach an AP of .77 with two, of .99 with three.

        Raises:
            ValueError: two sources of an evaluation would share a name in the tables.
        """
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor, batching)
        self.root = Path(root).expanduser()
        self.train, self.validate, self.test = train or [], validate or [], test or []
        self.miniature, self.bad, self.box_decimals = miniature, bad, box_decimals
        Range(1, MOST_DECIMALS, whole=True).check(box_decimals=box_decimals)
        self._read: dict[Source, list[Sample]] = {}
        for stage, sources in (("validate", self.validate), ("test", self.test)):
            repeated = [name for name, count in Counter(item.title for item in sources).items() if count > 1]
            if repeated:
                raise ValueError(
                    f"several {stage} sources are named {', '.join(repeated)}; set `name` to tell them apart"
                )

    @property
    def skips(self) -> bool:
        """Whether samples that cannot be read are left out."""
        return self.bad == "skip"

    @abstractmethod
    def write_miniature(self) -> None:
        """Writes the miniature to the root, unless it is there."""

    def prepare_data(self) -> None:
        """Writes the miniature where it is asked for and missing; Lightning calls it in one process."""
        if self.miniature:
            self.write_miniature()

    def train_sets(self) -> list[TrainSet]:
        """The training mixture."""
        if not self.train:
            raise ValueError(f"there is nothing to train on; list sources under {self.option}.train")
        return [TrainSet(self.samples(source), source.weight, bad=self.bad) for source in self.train]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The sets of `validate` or `test`."""
        sources = {"validate": self.validate, "test": self.test}[stage]
        return [
            EvalSet(source.title, self.samples(source), source.unseen_wording, source.protocol, self.bad)
            for source in sources
        ]

    def samples(self, source: Source) -> list[Sample]:
        """All samples of a source, from its annotation files or from memory.

        Raises:
            ValueError: its folder is not there, or its files are not as they should be.
        """
        if source not in self._read:
            samples = read(source.benchmark, self._folder(source), source.split, self.bad)
            if source.limit is not None and source.limit < len(samples):
                kept = random.Random(f"{source.benchmark}/{source.split}").sample(
                    range(len(samples)), source.limit
                )
                samples = [samples[place] for place in sorted(kept)]
            if self.box_decimals != Sample.decimals:
                samples = [replace(sample, decimals=self.box_decimals) for sample in samples]
            self._read[source] = samples
        return self._read[source]

    def _folder(self, source: Source) -> Path:
        folder = self.root / source.folder
        if folder.is_dir():
            return folder
        missing = f"the data folder {self.root}" if not self.root.is_dir() else f"the folder {folder}"
        raise ValueError(
            f"{missing} does not exist; {source.title} (split {source.split}) should be read from {folder}. "
            f"Set --{self.option}.root to the folder that holds the data, correct the source's `folder`, "
            f"or set --{self.option}.miniature to true to have the miniature written to a new root."
        )
