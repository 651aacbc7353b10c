"""Data module of the conventions benchmark: contradictory conventions on symbolic scenes or drawn images."""

import random
from collections.abc import Sequence
from pathlib import Path

from datamodules.base import Batching, InstructionDataModule
from datamodules.benchmarks import read
from datamodules.examples import EvalSet, TrainSet
from datamodules.miniature import files
from datamodules.miniature.conventions import Cue, Wording, blind_ceiling, question, tables
from datamodules.miniature.symbolic import symbols
from datamodules.miniature.world import SHAPES, generator, make_single
from octavius.instruction.batch import Processor
from octavius.instruction.sample import ClassName, Media, Sample
from octavius.limits import NON_NEGATIVE_INT, POSITIVE_INT, POSITIVE_NUMBER

WORDINGS: tuple[Wording, ...] = ("seen", "unseen_wording", "unseen_frame")
"""Wordings of the evaluation sets, one set each."""

GRID = 3
"""Patches along each side of a symbolic scene; enough for one object."""


class Scenes(Sequence[Sample]):
    """Samples of one convention, generated on demand from their index."""

    def __init__(
        self,
        convention: int,
        words: Sequence[str],
        cue: Cue,
        wording: Wording,
        part: str,
        size: int,
        pictures: Sequence[Sample] = (),
    ) -> None:
        """Selects a convention, the wording of its questions, and its scenes.

        Args:
            convention: index of the convention.
            words: the name that the convention gives to each of `SHAPES`.
            cue: how questions indicate the convention.
            wording: wording of the questions.
            part: `train`, `validate` or `test`, which share no scene.
            size: number of samples.
            pictures: classification samples whose question and answer are replaced; empty uses symbolic
                scenes.
        """
        self.convention, self.words, self.cue, self.wording = convention, words, cue, wording
        self.part, self.size, self.pictures = part, size, pictures

    def __len__(self) -> int:
        """Number of samples."""
        return self.size

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """The sample of an index."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        stream = f"conventions/{self.part}/{self.convention}"
        if self.pictures:
            drawn = self.pictures[index % len(self.pictures)]
            assert isinstance(drawn.gold, ClassName)
            media, shape = drawn.media, drawn.gold.name
        else:
            scene = make_single(generator(0, stream, index))
            media, shape = {"image": Media(array=symbols(scene, GRID))}, scene.things[0].shape
        rng = random.Random(f"{stream}/{self.wording}/{index}")
        return Sample(
            f"{self.convention}/{self.part}/{index}",
            "classification",
            f"convention{self.convention}",
            media,
            question(self.cue, self.convention, self.wording, rng),
            ClassName(self.words[SHAPES.index(shape)], SHAPES),
            group=f"convention{self.convention}",
        )


class Conventions(InstructionDataModule):
    """The conventions benchmark: one training set per convention, one evaluation set per entry of `WORDINGS`."""

    def __init__(
        self,
        conventions: int = 4,
        conflict: int = len(SHAPES),
        cue: Cue = "key",
        pictures: str | None = None,
        weights: list[float] | None = None,
        trained: list[int] | None = None,
        train_scenes: int = 100_000,
        eval_scenes: int = 64,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
        batching: Batching = "padded",
    ) -> None:
        """Configures the benchmark.

        Args:
            conventions: number of conventions, 1 to 16.
            conflict: number of the ten class names that the conventions permute: 0 or 2 to 10.
            cue: how a question indicates its convention: `key`, `own` or `style`; see `Cue`.
            pictures: root of the miniature's images, which are written if it does not exist; null uses
                symbolic scenes.
            weights: weight of each convention in training; null weights them equally.
            trained: indices of the conventions to train on; null trains on all. Evaluation always asks about all.
            train_scenes: training samples per convention.
            eval_scenes: evaluation samples per convention and wording.
            batch_size: training samples per step and rank.
            eval_batch_size: samples per batch of generation and rank.
            samples_per_epoch: training samples per epoch over all ranks; null takes the size of all
                training sets.
            workers: worker processes of each loader; 0 loads in the main process.
            seed: seed of the shuffling and of the mixture.
            processor: turns samples into examples for the model; the command line takes it from the model.
            batching: layout of a training batch: `padded` (one row per sample), `grouped` (as `padded`,
                regrouped by length) or `packed` (all samples in one row).

        Raises:
            ValueError: a number is out of range, there is not one weight per convention, or `trained` names others.
        """
        POSITIVE_INT.check(conventions=conventions, train_scenes=train_scenes, eval_scenes=eval_scenes)
        NON_NEGATIVE_INT.check(conflict=conflict, trained=trained)
        POSITIVE_NUMBER.check(weights=weights)
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor, batching)
        self.words = tables(conventions, conflict)
        if weights is not None and len(weights) != conventions:
            raise ValueError(f"expected a weight for each of {conventions} conventions, found {weights}")
        self.trained = list(range(conventions)) if trained is None else trained
        if not self.trained or not {*self.trained} <= {*range(conventions)}:
            raise ValueError(
                f"expected `trained` to list some of the conventions 0 to {conventions - 1}, found {trained}"
            )
        self.cue, self.weights = cue, weights or [1.0] * conventions
        self.pictures = None if pictures is None else Path(pictures)
        self.train_scenes, self.eval_scenes = train_scenes, eval_scenes

    def prepare_data(self) -> None:
        """Writes the images unless they exist."""
        if self.pictures is not None:
            files.build(self.pictures)

    def train_sets(self) -> list[TrainSet]:
        """One set per convention that is trained on."""
        drawn = self._drawn("train")
        return [
            TrainSet(
                Scenes(index, self.words[index], self.cue, "seen", "train", self.train_scenes, drawn),
                self.weights[index],
            )
            for index in self.trained
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """One set per wording, with all conventions."""
        ceiling = blind_ceiling(self.words)
        drawn = self._drawn({"validate": "val"}.get(stage, stage))
        return [
            EvalSet(
                wording,
                [
                    sample
                    for index, words in enumerate(self.words)
                    for sample in Scenes(index, words, self.cue, wording, stage, self.eval_scenes, drawn)
                ],
                blind_ceiling=ceiling,
            )
            for wording in WORDINGS
        ]

    def _drawn(self, split: str) -> list[Sample]:
        """The images of a split, shuffled: they are sorted by class, and a small set uses the first ones only."""
        if self.pictures is None:
            return []
        drawn = read("class_folder", self.pictures / "seen/classes", split)
        random.Random(0).shuffle(drawn)
        return drawn
