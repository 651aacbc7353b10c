"""Training and scoring of 3D object detectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch_geometric.data import Batch

from octavius.encoders.detector.assign import class_levels
from octavius.encoders.detector.detector import (
    PUBLISHED,
    Design,
    Detector,
    HeadName,
    load_detector,
    save_detector,
)
from octavius.encoders.detector.losses import Truth
from octavius.encoders.detector.proposals import Proposals, Suppression, suppressed
from octavius.encoders.rois.proposals import OVERLAP
from octavius.evaluation.generation import gathered
from octavius.instruction.sample import Boxes3D, LabelledBox3D
from octavius.limits import FRACTION, NON_NEGATIVE_NUMBER, POSITIVE_NUMBER
from octavius.media.crops import inside
from octavius.media.proposals import write_proposals
from octavius.metrics.boxes.detection3d import THRESHOLDS, ClassScore, MeanAP3D, class_scores
from octavius.metrics.records import mean
from octavius.pretraining.optimization import decay_groups, trapezoid

GUESSES = 100
"""Boxes per scene of the random baseline."""

MOST = 32
"""Largest number of boxes per scan written to `boxes`; as many as `SceneEncoder` reads by default."""


class SceneData(Protocol):
    """What a data module knows about its training split; C classes.

    Attributes:
        classes: class names.
        counts: (C,) number of objects per class.
        sizes: (C, 3) mean size in metres: longer side, shorter side, height.
        heights: (C,) mean height of the centres in metres.
    """

    classes: tuple[str, ...]
    counts: Tensor
    sizes: Tensor
    heights: Tensor


class DetectorModule(L.LightningModule):
    """Trains a detector on scenes and scores it on new ones.

    A batch is as from `datamodules.pretraining.scene_boxes.SceneBoxes`. Fitting starts from random weights;
    `validate` and `test` score the detector in `weights` unless a checkpoint is given.

    Args:
        detector: the head, `fcaf3d` or `tr3d`.
        design: the sizes; the published ones by default.
        weights: folder of the detector that `validate` and `test` score: a path, or a name among the shipped
            checkpoints.
        save_to: folder to which the trained detector is written.
        nms: overlap measure of non-maximum suppression: `3d`, or `bev` (bird's-eye view) as published.
        boxes: folder to which `test` writes the boxes found in each scan, for an encoder's `proposals` or for
            captioning; null writes none.
        lr: peak learning rate.
        weight_decay: weight decay of kernels; vectors have none.
        warmup: fraction of the steps for the linear warm-up.
        decay: fraction of the steps, at the end, for the cosine decay to zero.
    """

    detector: Detector

    def __init__(
        self,
        detector: HeadName = "fcaf3d",
        design: Design = PUBLISHED,
        weights: str = "miniature/detector",
        save_to: str = "runs/detector",
        nms: Suppression = "3d",
        boxes: str | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        warmup: float = 0.02,
        decay: float = 0.9,
    ) -> None:
        super().__init__()
        POSITIVE_NUMBER.check(lr=lr)
        NON_NEGATIVE_NUMBER.check(weight_decay=weight_decay)
        FRACTION.check(warmup=warmup, decay=decay)
        self.kind, self.design, self.weights, self.save_to = detector, design, weights, Path(save_to)
        self.nms, self.lr, self.weight_decay, self.warmup, self.decay = nms, lr, weight_decay, warmup, decay
        self.boxes = None if boxes is None else Path(boxes)
        self.metric, self.guessed = MeanAP3D(), MeanAP3D()
        self.trained = self.printed_guesses = False

    def setup(self, stage: str) -> None:  # noqa: ARG002 - the same for every stage
        """Builds a detector for the classes of the data."""
        if hasattr(self, "detector"):
            return
        data = self._data()
        self.detector = Detector(data.classes, self.kind, self.design)
        self.detector.class_levels = class_levels(data.classes, data.sizes, self.detector.level_spacings)
        self.detector.nms = self.nms

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002 - only whether there is one matters
        """Records that the weights come from a checkpoint."""
        self.trained = True

    def on_fit_start(self) -> None:
        """Records that the weights come from this training."""
        self.trained = True

    def on_validation_start(self) -> None:
        """Loads the folder's detector unless the weights come from training or a checkpoint."""
        if self.trained:
            return
        self.detector = load_detector(self.weights).to(self.device)
        self.detector.nms = self.nms
        if strange := sorted({*self.detector.classes} ^ {*self._data().classes}):
            raise ValueError(
                f"the detector in {self.weights} and the data differ in the classes {', '.join(strange)}; name the "
                "detector's in data.classes, or train one for this data"
            )

    on_test_start = on_validation_start

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The sum of the detector's losses."""
        losses = self.detector.losses(batch.x, batch.batch, truths(batch))
        size = batch.num_graphs
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=size)
        total = torch.stack([*losses.values()]).sum()
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        return total

    def on_validation_epoch_start(self) -> None:
        """Clears the results of the last validation."""
        self.metric.reset()
        self.guessed.reset()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Scores the detected boxes; in the first validation, those of the random baseline too."""
        golds = [_gold(self._data().classes, boxes, labels) for boxes, labels in truths(batch)]
        found = self.detector.propose(batch.x, batch.batch)
        if self.boxes is not None and self.trainer.testing:
            clouds = batch.x.split(batch.batch.bincount(minlength=len(found)).tolist())
            write_boxes(self.boxes, batch.name, found, clouds)
        self.metric.update([_labelled(self.detector.classes, one) for one in found], golds)
        if not self.printed_guesses:
            rng = torch.Generator().manual_seed(index)
            points = batch.x.cpu().split(batch.batch.bincount().tolist())
            guesses = [guessed(cloud, self._data(), rng) for cloud in points]
            self.guessed.update([_labelled(self._data().classes, one) for one in guesses], golds)

    def on_validation_epoch_end(self) -> None:
        """Logs mAP and mean recall, and prints a table of the classes."""
        self._report("val")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Logs and prints as after a validation."""
        self._report("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; linear warm-up, constant rate, and cosine decay to zero over the last `decay` of the steps."""
        optimizer = torch.optim.AdamW(
            decay_groups(self.parameters()), lr=self.lr, weight_decay=self.weight_decay
        )
        return trapezoid(optimizer, self.trainer.estimated_stepping_batches, self.warmup, self.decay)

    def on_fit_end(self) -> None:
        """Writes the trained detector."""
        if self.trainer.is_global_zero:
            save_detector(self.detector, self.save_to)

    def _report(self, stage: str) -> None:
        """Logs the results of a stage, and prints its table."""
        self.metric.records = gathered(self.metric.records)
        self.log_dict({f"{stage}/{name}": value for name, value in self.metric.compute().items()})
        lines = table([class_scores(self.metric.records, index) for index in range(len(THRESHOLDS))])
        if not self.printed_guesses:
            self.guessed.records = gathered(self.guessed.records)
            blind = self.guessed.compute()
            scores = ", ".join(f"{name} {blind[name]:.3f}" for name in ("map25", "map50"))
            lines.append(f"{GUESSES} guesses a scene, by how frequent, large and high classes are: {scores}")
            self.printed_guesses = True
        if self.trainer.is_global_zero:
            print("", *lines, sep="\n", flush=True)

    def _data(self) -> SceneData:
        data: Any = getattr(self.trainer, "datamodule", None)
        lacking = [name for name in SceneData.__annotations__ if not hasattr(data, name)]
        if lacking:
            raise ValueError(
                f"the data module of a detector needs the attributes {', '.join(lacking)}; take "
                "datamodules.pretraining.scene_boxes.SceneBoxes, or add them to yours"
            )
        scene: SceneData = data
        return scene


def write_boxes(
    folder: Path, scans: Sequence[str], found: Sequence[Proposals], clouds: Sequence[Tensor]
) -> None:
    """Writes the best boxes of each scene that contain a point of its cloud (P, 6), after suppression."""
    for name, one, points in zip(scans, found, clouds, strict=True):
        best = suppressed(one.boxes, one.scores, OVERLAP)
        full = torch.tensor(
            [len(inside(points, one.boxes[index])) > 0 for index in best.tolist()], dtype=torch.bool
        )
        kept = best[full.to(best.device)][:MOST]
        write_proposals(folder / f"{name}.npz", one.boxes[kept].cpu().numpy(), one.scores[kept].cpu().numpy())


def truths(batch: Batch) -> list[Truth]:
    """Ground-truth boxes and classes of each scene of a batch."""
    counts = batch.boxes_batch.bincount(minlength=batch.num_graphs).tolist()
    return [*zip(batch.boxes.split(counts), batch.labels.split(counts), strict=True)]


def guessed(points: Tensor, data: SceneData, rng: torch.Generator) -> Proposals:
    """Random baseline: boxes anywhere in a scene, with the class frequencies, sizes and heights of training.

    Args:
        points: (P, 6) points of the scene.
        data: statistics of the training split.
        rng: random generator.
    """
    labels = torch.multinomial(data.counts.float(), GUESSES, replacement=True, generator=rng)
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    middle = low + (high - low) * torch.rand(GUESSES, 2, generator=rng)
    sizes = data.sizes[labels].float()
    turned = torch.rand(GUESSES, generator=rng) < 0.5
    sizes[turned, :2] = sizes[turned, :2].flip(1)
    boxes = torch.cat([middle, data.heights[labels, None].float(), sizes], dim=1)
    return Proposals(boxes, torch.rand(GUESSES, generator=rng), labels)


def table(scores: list[dict[str, ClassScore]]) -> list[str]:
    """Table lines per class, best first: number of objects, AP at each threshold, recall at the first threshold.

    The last line has the total of the objects and the means over classes.
    """
    names = sorted(scores[0], key=lambda name: -scores[0][name].precision)
    heads = "".join(f"{f'AP@{threshold}':>9}" for threshold in THRESHOLDS)
    lines = [f"{'class':24}{'objects':>9}{heads}{'recall':>9}"]
    for name in names:
        of_class = scores[0][name]
        lines.append(_line(name, of_class.objects, [of[name].precision for of in scores], of_class.recall))
    objects = sum(one.objects for one in scores[0].values())
    recall = mean([one.recall for one in scores[0].values()])
    precisions = [mean([one.precision for one in of.values()]) for of in scores]
    return [*lines, _line("all classes", objects, precisions, recall)]


def _line(name: str, objects: int, precisions: list[float], recall: float) -> str:
    return f"{name:24}{objects:9}{''.join(f'{value:9.3f}' for value in precisions)}{recall:9.3f}"


def _labelled(classes: tuple[str, ...], found: Proposals) -> list[LabelledBox3D]:
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [LabelledBox3D(classes[label], tuple(box), score) for box, score, label in rows]


def _gold(classes: tuple[str, ...], boxes: Tensor, labels: Tensor) -> Boxes3D:
    rows = zip(boxes.tolist(), labels.tolist(), strict=True)
    return Boxes3D(tuple(LabelledBox3D(classes[label], tuple(box)) for box, label in rows))
