"""Data module that mixes images and point clouds within each batch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature

from datamodules.base import Batching, InstructionDataModule
from datamodules.instances import EvalSet, TrainSet
from datamodules.sources import SourceInstructions
from octavius.instruction.batch import Processor
from octavius.limits import POSITIVE

LOADING = ("batch_size", "eval_batch_size", "samples_per_epoch", "workers", "seed", "processor", "batching")
"""Settings of the loaders: read from the mixture, and refused in its parts, where they would have no effect."""


@dataclass(frozen=True)
class Passes:
    """Passes through each modality's training sets per epoch; with `samples_per_epoch` set, only their ratio counts.

    Attributes:
        images: passes through the image sets.
        clouds: passes through the point-cloud sets; in the paper, twice those through the images.
    """

    images: float = 1.0
    clouds: float = 2.0

    def __post_init__(self) -> None:
        """Refuses passes that are not positive: to leave a modality out, use the other's data module alone."""
        if not (self.images > 0 and self.clouds > 0):
            raise ValueError(
                f"the passes through both modalities should be positive, found images {self.images} and clouds "
                f"{self.clouds}; to train on one modality alone, take its own data module"
            )
        POSITIVE.check(images=self.images, clouds=self.clouds)


DEFAULT_PASSES = Passes()


class MixedInstructions(InstructionDataModule):
    """Images and point clouds in one mixture, so that a batch holds both, on any number of processes.

    All sets of both modalities form one list with one plan. A modality's weight is its number of samples
    times its passes, and is divided among its sets by their own weights. Evaluation runs the image sets, then
    the point-cloud sets.
    """

    def __init__(
        self,
        images: InstructionDataModule,
        clouds: InstructionDataModule,
        passes: Passes = DEFAULT_PASSES,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
        batching: Batching = "padded",
    ) -> None:
        """Joins two data modules: they provide the sets, the loaders are configured here.

        Args:
            images: data module of images, with its sources.
            clouds: data module of point clouds, with its sources.
            passes: passes through each modality's training sets per epoch.
            batch_size: training instances per step and process.
            eval_batch_size: instances per batch of generation and process.
            samples_per_epoch: training instances per epoch over all processes; null takes all training sets,
                each modality as often as its passes.
            workers: worker processes of each loader; 0 loads in the main process.
            seed: seed of the shuffling, of the mixture and of the tasks' random choices; each miniature has
                its own seed.
            processor: turns samples into examples for the model; the command line takes it from the model.
            batching: layout of a training batch: `padded` (one row per instance), `grouped` (as `padded`,
                regrouped by length) or `packed` (all instances in one row).

        Raises:
            ValueError: a part sets one of the loaders' settings.
        """
        super().__init__(batch_size, eval_batch_size, samples_per_epoch, workers, seed, processor, batching)
        self.images, self.clouds, self.passes = images, clouds, passes
        for name, part in (("images", images), ("clouds", clouds)):
            own = signature(type(part)).parameters
            if changed := [key for key in LOADING if key in own and getattr(part, key) != own[key].default]:
                raise ValueError(
                    f"data.init_args.{name} sets {', '.join(changed)}, which a mixture does not read there; set "
                    "that under data.init_args, for both modalities"
                )
            if isinstance(part, SourceInstructions):
                part.option = f"data.init_args.{name}.init_args"

    def prepare_data(self) -> None:
        """Lets both parts write their miniature; Lightning calls it in one process."""
        self.images.prepare_data()
        self.clouds.prepare_data()

    def train_sets(self) -> list[TrainSet]:
        """The sets of both modalities, weighted so that each modality has its share."""
        return [
            *_shared_out(self.images.train_sets(), self.passes.images),
            *_shared_out(self.clouds.train_sets(), self.passes.clouds),
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The sets of both modalities.

        Raises:
            ValueError: two of them share a name in the tables.
        """
        sets = [*self.images.eval_sets(stage), *self.clouds.eval_sets(stage)]
        if repeated := [name for name, count in Counter(item.name for item in sets).items() if count > 1]:
            raise ValueError(
                f"images and clouds both have {stage} sources named {', '.join(repeated)}; set `name` to tell "
                "them apart"
            )
        return sets

    @property
    def skips(self) -> bool:
        """Whether either modality leaves out unreadable samples."""
        return any(getattr(part, "skips", False) for part in (self.images, self.clouds))

    def whole_epoch(self, sets: Sequence[TrainSet]) -> int:
        """All training sets, each modality as often as its passes."""
        # `_shared_out` scaled the weights to add up to instances, not to 1.
        return round(sum(item.weight for item in sets))


def _shared_out(sets: Sequence[TrainSet], passes: float) -> list[TrainSet]:
    """The sets of one modality, with weights scaled to add up to its samples times its passes."""
    share = passes * sum(len(item.samples) for item in sets) / sum(item.weight for item in sets)
    # `order` counts within the modality: a set is shuffled as if its modality were trained on alone.
    return [replace(item, weight=item.weight * share, order=order) for order, item in enumerate(sets)]
