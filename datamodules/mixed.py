"""Data module that mixes modalities within each batch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from inspect import signature

from datamodules.base import Batching, InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from datamodules.source_instructions import SourceInstructions
from octavius.instruction.batch import Processor
from octavius.limits import POSITIVE_NUMBER
from octavius.suggestions import nearest

LOADING = ("batch_size", "eval_batch_size", "samples_per_epoch", "workers", "seed", "processor", "batching")
"""Settings of the loaders: read from the mixture, and refused in its parts, where they would have no effect."""


@dataclass(frozen=True)
class Passes:
    """Passes through each modality's training sets per epoch; with `samples_per_epoch` set, only their ratio counts.

    Attributes:
        images: passes through the image sets.
        clouds: passes through the point-cloud sets; in the paper, twice those through the images.
        others: passes through the sets of other modalities by name; 1 if not given.
    """

    images: float = 1.0
    clouds: float = 2.0
    others: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses passes that are not positive: to leave a modality out, leave out its data module."""
        if not min(self.images, self.clouds, *self.others.values()) > 0:
            raise ValueError(
                f"the passes through all modalities should be positive, found images {self.images}, clouds "
                f"{self.clouds} and others {self.others}; to train on one modality alone, take its own data module"
            )
        POSITIVE_NUMBER.check(images=self.images, clouds=self.clouds, others=self.others)

    def of(self, name: str) -> float:
        """The passes through the sets of a modality."""
        named = {"images": self.images, "clouds": self.clouds}
        return named[name] if name in named else self.others.get(name, 1.0)


DEFAULT_PASSES = Passes()


class MixedInstructions(InstructionDataModule):
    """Several modalities in one mixture, so that a batch may hold all of them, on any number of processes.

    One `MixtureSampler` draws from the sets of all modalities. A modality's weight is its number of samples times
    its passes, and is divided among its sets by their own weights. Evaluation runs the image sets, then the
    point-cloud sets, then the others.

    Attributes:
        parts: data modules by their names in the configuration: `images`, `clouds` or a key of `others`.
    """

    def __init__(
        self,
        images: InstructionDataModule | None = None,
        clouds: InstructionDataModule | None = None,
        passes: Passes = DEFAULT_PASSES,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
        batching: Batching = "padded",
        others: dict[str, InstructionDataModule] | None = None,
    ) -> None:
        """Joins several data modules: they provide the sets, the loaders are configured here.

        Args:
            images: data module of images, with its sources.
            clouds: data module of point clouds, with its sources.
            passes: passes through each modality's training sets per epoch.
            batch_size: training samples per step and rank.
            eval_batch_size: samples per batch of generation and rank.
            samples_per_epoch: training samples per epoch over all ranks; null takes all training sets,
                each modality as often as its passes.
            workers: worker processes of each loader; 0 loads in the main process.
            seed: seed of the shuffling, of the mixture and of the tasks' random choices; the files of the
                miniature do not depend on it.
            processor: turns samples into examples for the model; the command line takes it from the model.
            batching: layout of a training batch: `padded` (one row per sample), `grouped` (as `padded`,
                regrouped by length) or `packed` (all samples in one row).
            others: data modules of other modalities by name.

        Raises:
            ValueError: there are fewer than two data modules, or one sets one of the loaders' settings.
        """
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor, batching)
        given = {"images": images, "clouds": clouds, **(others or {})}
        self.parts = {name: part for name, part in given.items() if part is not None}
        self.passes = passes
        if len(self.parts) < 2:
            raise ValueError(
                f"a mixture has two data modules or more, found {', '.join(self.parts) or 'none'}; give it images, "
                "clouds or others, or take the data module itself"
            )
        if unknown := sorted(set(passes.others) - set(others or {})):
            raise ValueError(
                f"passes.others names {', '.join(unknown)}, of which there is no data module in others"
                f"{nearest(unknown[0], others or {})}"
            )
        for name, part in self.parts.items():
            key = name if name in ("images", "clouds") else f"others.{name}"
            accepted = signature(type(part)).parameters
            if changed := [
                name for name in LOADING if name in accepted and getattr(part, name) != accepted[name].default
            ]:
                raise ValueError(
                    f"data.init_args.{key} sets {', '.join(changed)}, which has no effect in a part of a mixture; "
                    "set it under data.init_args, for all modalities"
                )
            if isinstance(part, SourceInstructions):
                part.option = f"data.init_args.{key}.init_args"

    def prepare_data(self) -> None:
        """Lets parts that generate their data, such as the miniature, write it; Lightning calls it in one process."""
        for part in self.parts.values():
            part.prepare_data()

    def train_sets(self) -> list[TrainSet]:
        """The sets of all modalities, weighted so that each modality has its share."""
        return [
            item
            for name, part in self.parts.items()
            for item in _scaled(part.train_sets(), self.passes.of(name))
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The sets of all modalities.

        Raises:
            ValueError: two of them share a name in the tables.
        """
        sets = [item for part in self.parts.values() for item in part.eval_sets(stage)]
        if repeated := [name for name, count in Counter(item.name for item in sets).items() if count > 1]:
            raise ValueError(
                f"{' and '.join(self.parts)} have {stage} sources of the same name {', '.join(repeated)}; set `name` "
                "to tell them apart"
            )
        return sets

    @property
    def skips(self) -> bool:
        """Whether any modality leaves out unreadable samples."""
        return any(getattr(part, "skips", False) for part in self.parts.values())

    def default_epoch_size(self, sets: Sequence[TrainSet]) -> int:
        """All training sets, each modality as often as its passes."""
        # `_scaled` makes the weights add up to numbers of samples, not to 1.
        return round(sum(item.weight for item in sets))


def _scaled(sets: Sequence[TrainSet], passes: float) -> list[TrainSet]:
    """The sets of one modality, with weights scaled to add up to its number of samples times its passes."""
    factor = passes * sum(len(item.samples) for item in sets) / sum(item.weight for item in sets)
    # `order` counts within the modality: a set is shuffled as if its modality were trained on alone.
    return [replace(item, weight=item.weight * factor, order=order) for order, item in enumerate(sets)]
