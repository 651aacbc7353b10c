"""Data module of benchmark test sets, for a model that was configured with other data.

Used by `octavius test --benchmarks`: a run that was stopped resumes with the samples that have no answer yet.
"""

import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from datamodules.base import InstructionDataModule, rank_and_world, shard_indices
from datamodules.examples import EvalSet, EvaluationExamples, TrainSet, find_task
from datamodules.source_instructions import SourceInstructions
from datamodules.sources import Source
from datamodules.suite import SUITE, sources
from octavius.instruction.batch import Example
from octavius.instruction.golds import to_json
from octavius.instruction.sample import Media, Sample
from octavius.suggestions import nearest

OWN = "miniature"
"""Name under which the test sets of the model's own configuration are asked for; in the presets, the miniature's."""


class _Files(SourceInstructions):
    """The benchmarks of the suite, read from folders under one root."""

    option = "data_root"

    def _folder(self, source: Source) -> Path:
        folder = self.root / source.folder
        if not folder.is_dir():
            raise ValueError(
                f"{source.title} is read from {folder}, which does not exist; name the folder that holds benchmarks "
                "with --data-root"
            )
        return folder


class BenchmarkSets(InstructionDataModule):
    """The test sets of named benchmarks, for a model that was configured with other data.

    Attributes:
        done: (set name, sample id) of the samples that are already answered; their prompts are not loaded.
    """

    def __init__(self, configured: InstructionDataModule, names: str, root: str | Path) -> None:
        """Resolves the names; no file is read.

        Args:
            configured: data module of the model's configuration. Its processor, batch size and number of workers
                are used, and its test sets if the name `miniature` is given.
            names: comma-separated keys of `datamodules.suite.SUITE`, or `miniature`.
            root: folder that holds the benchmarks.

        Raises:
            ValueError: a name is unknown, or there is none.
        """
        super().__init__(
            eval_batch_size=configured.eval_batch_size,
            workers=configured.workers,
            seed=configured.seed,
            processor=configured.processor,
        )
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        unknown = [name for name in wanted if name not in SUITE and name != OWN]
        if unknown or not wanted:
            hint = f" with the unknown {unknown[0]!r}{nearest(unknown[0], [OWN, *SUITE])}" if unknown else ""
            raise ValueError(
                f"expected names of benchmarks with commas between them, found {names!r}{hint}; known are {OWN} "
                f"(the test sets of the configuration), {', '.join(SUITE)}"
            )
        self._training = configured
        self.configured = configured if OWN in wanted else None
        images = getattr(configured, "images", configured)  # a mixture has the box format of its image part
        rest = ", ".join(name for name in wanted if name != OWN)
        self.files = (
            _Files(
                str(root),
                test=sources(rest),
                bad=getattr(configured, "bad", "error"),
                box_decimals=getattr(images, "box_decimals", Sample.decimals),
            )
            if rest
            else None
        )
        self.done: Collection[tuple[str, str]] = frozenset()
        self._sets: list[EvalSet] | None = None

    def prepare_data(self) -> None:
        """Writes the miniature if its test sets are asked for."""
        if self.configured is not None:
            self.configured.prepare_data()

    def train_sets(self) -> list[TrainSet]:
        """The training sets of the model's configuration, from which baselines take the most frequent answers."""
        return self._training.train_sets()

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002 - always `test`
        """All test sets, those of the configuration first; their files are read at the first call only."""
        if self._sets is None:
            sets = [] if self.configured is None else self.configured.eval_sets("test")
            self._sets = [*sets, *([] if self.files is None else self.files.eval_sets("test"))]
        return self._sets

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """By set name, for each sample what its answer and score depend on.

        Answers that were stored with other facts are stale and must be generated again.
        """
        return {
            item.name: [_fact(item, sample) for sample in item.samples] for item in self.eval_sets("test")
        }

    def left(self) -> list[int]:
        """Indices of the samples without an answer, over all sets in order."""
        keys = [(item.name, sample.id) for item in self.eval_sets("test") for sample in item.samples]
        return [index for index, key in enumerate(keys) if key not in self.done]

    def test_dataloader(self) -> DataLoader[Example]:
        """The loader of this rank's share of the samples without an answer."""
        processor, indices = self._processor(), self.left()
        rank, world = rank_and_world(self)
        return DataLoader(
            EvaluationExamples(self.eval_sets("test"), processor),
            self.eval_batch_size,
            sampler=[indices[turn] for turn in shard_indices(len(indices), rank, world)],
            **self._loader_options(processor.collate),
        )


def _fact(item: EvalSet, sample: Sample) -> dict[str, Any]:
    # The question is drawn as `EvaluationExamples._example` draws it, so a changed wording is seen.
    rng = random.Random(f"{item.name}/{sample.id}")
    media = {name: _medium(one) for name, one in sample.media.items()}
    return {
        "id": sample.id,
        "task": sample.task,
        "question": find_task(sample.task).question(sample, rng, item.unseen_wording),
        "history": sample.history,
        "gold": to_json(sample.gold),
        "media": media,
        **({"placed": [[name, _medium(one)] for name, one in sample.placed]} if sample.placed else {}),
    }


def _medium(one: Media) -> list[Any]:
    # The size stands in for the content: hashing means reading every file.
    size = one.path.stat().st_size if one.path is not None and one.path.is_file() else None
    region = None if one.region is None else [one.region.object, one.region.box]
    return [None if one.path is None else one.path.name, size, one.pose, region]
