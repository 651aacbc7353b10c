"""A data module of images and one of point clouds come in, loaders whose batches mix both go out."""

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
"""What is set for the mixture, and means nothing in its parts."""


@dataclass(frozen=True)
class Passes:
    """How often the training sets of each modality are gone through; with a set length of epochs, in proportion.

    Attributes:
        images: passes through the images.
        clouds: passes through the point clouds; the paper's are twice those through the images.
    """

    images: float = 1.0
    clouds: float = 2.0

    def __post_init__(self) -> None:
        """Refuses a modality without a share, which is left out by taking the other's data module alone."""
        if not (self.images > 0 and self.clouds > 0):
            raise ValueError(
                f"the passes through both modalities should be positive, found images {self.images} and clouds "
                f"{self.clouds}; to train on one modality alone, take its own data module"
            )
        POSITIVE.check(images=self.images, clouds=self.clouds)


DEFAULT_PASSES = Passes()


class MixedInstructions(InstructionDataModule):
    """Images and point clouds in one planned mixture: a batch holds both, on any number of processes.

    The plan is that of a single list of sets, made from one seed: which samples of which modality make a batch
    is known to every process. A modality's share is its samples times its passes; among its sets it is shared out by
    their own weights. Evaluation goes through the sets of the images, then through those of the clouds.
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
        """Joins two data modules, of which the sets are taken; how they are loaded is set here.

        Args:
            images: the data module of images, with its sources.
            clouds: the data module of point clouds, with its sources.
            passes: how often each modality's training sets are gone through, in any scale.
            batch_size: training instances in a step on one process.
            eval_batch_size: instances generated at once on one process.
            samples_per_epoch: instances in an epoch over all processes; null counts all training sets, as often
                as they are gone through.
            workers: data worker processes of each loader.
            seed: of the order, of the mixture and of the tasks' random choices; each miniature has its own.
            processor: prepares samples for the model; the command line takes it from the model.
            batching: `padded` gives each training instance a row, `grouped` puts those of like length together,
                `packed` puts all of a step into one row.

        Raises:
            ValueError: a part sets what is set for the mixture alone.
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
        """Writes what either part is to write first; Lightning calls it in one process."""
        self.images.prepare_data()
        self.clouds.prepare_data()

    def train_sets(self) -> list[TrainSet]:
        """The sets of both, weighted so that each modality has its share."""
        return [
            *_shared_out(self.images.train_sets(), self.passes.images),
            *_shared_out(self.clouds.train_sets(), self.passes.clouds),
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The sets of both.

        Raises:
            ValueError: two of them would share a name in the tables.
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
        """Whether either modality leaves samples out that cannot be read."""
        return any(getattr(part, "skips", False) for part in (self.images, self.clouds))

    def whole_epoch(self, sets: Sequence[TrainSet]) -> int:
        """All training sets, those of each modality as often as it is gone through."""
        return round(sum(item.weight for item in sets))


def _shared_out(sets: Sequence[TrainSet], passes: float) -> list[TrainSet]:
    """The sets of one modality; their weights add up to its samples times its passes."""
    share = passes * sum(len(item.samples) for item in sets) / sum(item.weight for item in sets)
    return [replace(item, weight=item.weight * share, order=order) for order, item in enumerate(sets)]
