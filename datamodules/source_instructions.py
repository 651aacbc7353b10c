"""Base class of the data modules whose sets are benchmarks read from annotation files."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from datamodules.base import Batching, InstructionDataModule
from datamodules.benchmarks import read
from datamodules.examples import EvalSet, TrainSet
from datamodules.sources import Source
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Sample
from octavius.limits import Range

T = TypeVar("T")

MOST_DECIMALS = 6
"""Largest number of decimals of a box coordinate: a millionth of an image, or a thousandth of a millimetre."""


class SourceInstructions(InstructionDataModule):
    """Instruction data from files: benchmarks mixed by weight for training, evaluated one after another.

    Annotation files are read once, when a loader is first asked for; media are read in the workers.

    Attributes:
        option: where these settings are in a configuration, for error messages.
    """

    option = "data.init_args"

    def __init__(
        self,
        root: str,
        train: list[Source] | None = None,
        validate: list[Source] | None = None,
        test: list[Source] | None = None,
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
        """Stores the settings; no file is read.

        Args:
            root: folder of the data; the sources' folders are relative to it.
            train: sources to train on.
            validate: sources to evaluate after each epoch.
            test: sources to test on.
            bad: `error` stops at a bad item of an annotation file, and at an unreadable sample when it is
                loaded; `skip` warns and leaves bad items out, replaces an unreadable training sample by
                another, and leaves an unreadable evaluation sample out of the scores.
            batch_size: training samples per step and rank.
            eval_batch_size: samples per batch of generation and rank.
            samples_per_epoch: training samples per epoch over all ranks; null takes the size of all
                training sets.
            workers: worker processes of each loader; 0 loads in the main process.
            seed: seed of the shuffling, of the mixture and of the tasks' random choices; the files of the
                miniature do not depend on it.
            processor: turns samples into examples for the model; the command line takes it from the model.
            batching: layout of a training batch: `padded` (one row per sample), `grouped` (as `padded`,
                regrouped by length) or `packed` (all samples in one row).
            box_decimals: decimals of box coordinates in answers, 1 to 6. Two resolve 1 % of an image, or 1
                cm. Perfect answers to COCO reach an AP of .77 with two decimals, of .99 with three.

        Raises:
            ValueError: a number is out of range, or two sources of an evaluation share a name in the tables.
        """
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor, batching)
        self.root = Path(root).expanduser()
        self.train, self.validate, self.test = train or [], validate or [], test or []
        self.bad, self.box_decimals = bad, box_decimals
        Range(1, MOST_DECIMALS, integer=True).check(box_decimals=box_decimals)
        self._read: dict[Source, list[Sample]] = {}
        for stage, sources in (("validate", self.validate), ("test", self.test)):
            repeated = [name for name, count in Counter(item.title for item in sources).items() if count > 1]
            if repeated:
                raise ValueError(
                    f"several {stage} sources are named {', '.join(repeated)}; set `name` to tell them apart"
                )

    @property
    def skips(self) -> bool:
        """Whether unreadable samples are left out."""
        return self.bad == "skip"

    def train_sets(self) -> list[TrainSet]:
        """The training sets, with their weights in the mixture."""
        if not self.train:
            raise ValueError(f"there is nothing to train on; list sources under {self.option}.train")
        return [TrainSet(self.samples(source), source.weight, bad=self.bad) for source in self.train]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The evaluation sets of a stage, `validate` or `test`."""
        sources = {"validate": self.validate, "test": self.test}[stage]
        return [
            EvalSet(source.title, self.samples(source), source.unseen_wording, source.protocol, self.bad)
            for source in sources
        ]

    def samples(self, source: Source) -> list[Sample]:
        """All samples of a source; its annotation files are read at the first call only.

        Raises:
            ValueError: its folder does not exist, or its files are malformed.
        """
        if source not in self._read:
            samples = read(source.benchmark, self._folder(source), source.split, self.bad)
            samples = random_subset(samples, source.limit, f"{source.benchmark}/{source.split}")
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
            "or set class_path to MiniatureImages or MiniatureClouds, which write the miniature to a new root."
        )


def random_subset(items: list[T], limit: int | None, seed: str) -> list[T]:
    """At most `limit` of the items, a random subset that depends on the seed only, in their order; None takes all."""
    if limit is None or limit >= len(items):
        return items
    return [items[index] for index in sorted(random.Random(seed).sample(range(len(items)), limit))]


def check_folders(data: Mapping[str, Any], stages: Sequence[str]) -> None:
    """Checks that the folders of a data section exist, before the model is loaded, which may take minutes.

    Data modules that write their data (those with a `prepare_data`) are not checked.

    Args:
        data: `class_path` and `init_args` of a data module; the parts of a mixture are checked too.
        stages: keys of the sources that will be read: `train`, `validate`, `test`.

    Raises:
        ValueError: a folder does not exist.
    """
    module, _, name = str(data["class_path"]).rpartition(".")
    kind, options = getattr(import_module(module), name), data.get("init_args") or {}
    for part in (*options.values(), *(options.get("others") or {}).values()):
        if isinstance(part, Mapping) and "class_path" in part and "init_args" in part:
            check_folders(part, stages)
    if not issubclass(kind, SourceInstructions) or kind.prepare_data is not SourceInstructions.prepare_data:
        return
    root = Path(options["root"])
    for source in (one for stage in stages for one in options.get(stage) or ()):
        folder = root / source["folder"]
        if not folder.is_dir():
            missing = folder if root.is_dir() else f"the data folder {root}"
            raise ValueError(
                f"{missing} does not exist: {source['benchmark']} is to be read from {folder}. Set "
                f"--{kind.option}.root, or the `folder` of the source; `octavius check-data` lists all missing files"
            )
