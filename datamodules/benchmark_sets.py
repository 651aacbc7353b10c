"""Names of benchmarks and a data root come in; a data module of their test sets, or of the rest of them, goes out."""

import random
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from datamodules.base import InstructionDataModule, even_share
from datamodules.benchmarks.suite import SUITE, sources
from datamodules.instances import EvalSet, EvaluationInstances, TrainSet, find_task
from datamodules.sources import Source, SourceInstructions
from octavius.instruction.batch import Example
from octavius.instruction.golds import to_json
from octavius.instruction.sample import Sample

OWN = "miniature"
"""The name for the test sets of the configuration itself, which are the miniature's in the shipped presets."""


class _Files(SourceInstructions):
    """The sources of a suite under one root."""

    option = "data_root"

    def write_miniature(self) -> None:
        """There is none to write."""

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
        done: (set, id) of samples that need no answer any more.
    """

    def __init__(self, configured: InstructionDataModule, names: str, root: str | Path) -> None:
        """Names the sets; no file is read.

        Args:
            configured: the data module of the model's configuration: its processor, batch size and workers are taken,
                and for the name `miniature` its own test sets.
            names: of `datamodules.benchmarks.suite.SUITE`, or `miniature`, with commas between them.
            root: the folder that holds the benchmarks.

        Raises:
            ValueError: an unknown name.
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
            raise ValueError(
                f"expected names of benchmarks with commas between them, found {names!r}"
                f"{f' with the unknown {unknown[0]!r}' if unknown else ''}; known are {OWN} (the test sets of the "
                f"configuration), {', '.join(SUITE)}"
            )
        self._training = configured
        self.configured = configured if OWN in wanted else None
        images = getattr(configured, "images", configured)
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
        """Writes the miniature, where its sets are asked for."""
        if self.configured is not None:
            self.configured.prepare_data()

    def train_sets(self) -> list[TrainSet]:
        """What the model was trained on, for the answers that are most frequent there."""
        return self._training.train_sets()

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002 - there is one alone
        """All sets, those of the configuration first."""
        if self._sets is None:
            own = [] if self.configured is None else self.configured.eval_sets("test")
            self._sets = [*own, *([] if self.files is None else self.files.eval_sets("test"))]
        return self._sets

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """By set, what every sample asks of the model and is scored by: if any of it changes, answers are no more."""
        return {
            item.name: [_fact(item, sample) for sample in item.samples] for item in self.eval_sets("test")
        }

    def left(self) -> list[int]:
        """Places of the samples that are not done, in the order of all sets."""
        keys = [(item.name, sample.id) for item in self.eval_sets("test") for sample in item.samples]
        return [place for place, key in enumerate(keys) if key not in self.done]

    def test_dataloader(self) -> DataLoader[Example]:
        """Prompts of the samples that are left."""
        processor, places = self._processor(), self.left()
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            EvaluationInstances(self.eval_sets("test"), processor),
            self.eval_batch_size,
            sampler=[places[turn] for turn in even_share(len(places), rank, world)],
            **self._loading(processor.collate),
        )


def _fact(item: EvalSet, sample: Sample) -> dict[str, Any]:
    asked = replace(sample, benchmark=item.name)
    rng = random.Random(f"{item.name}/{sample.id}")
    media = {}
    for name, one in sample.media.items():
        size = one.path.stat().st_size if one.path is not None and one.path.is_file() else None
        region = None if one.region is None else [one.region.object, one.region.box]
        media[name] = [None if one.path is None else one.path.name, size, one.pose, region]
    return {
        "id": sample.id,
        "task": sample.task,
        "question": find_task(sample.task).question(asked, rng, item.unseen_wording),
        "history": sample.history,
        "gold": to_json(sample.gold),
        "media": media,
    }
