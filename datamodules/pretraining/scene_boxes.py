"""Data module of scans with boxes, to train detectors."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Batch, Data

from datamodules.base import rank_and_world
from datamodules.benchmarks.base import BadPolicy
from datamodules.benchmarks.clouds.scannet import DETECTION_CLASSES, nyu40_ids, read_scenes
from datamodules.benchmarks.clouds.scans import Scan
from datamodules.mixture import Draw, MixtureSampler
from datamodules.pretraining.scene_augmentation import Augmentation, augment, fewer
from octavius.instruction.sample import Media
from octavius.limits import POSITIVE_INT, SEED_RANGE, SIZE_RANGE, WORKERS_RANGE
from octavius.media.clouds import CloudLoader
from octavius.processes import init_worker

Labels: TypeAlias = Literal["raw", "benchmark"]


@dataclass(frozen=True)
class Scene:
    """A scan with its ground-truth boxes.

    Attributes:
        name: name of the scan.
        cloud: reference to its points.
        boxes: (M, 6) boxes of the objects of known classes, centre and size.
        labels: (M,) indices of their classes.
    """

    name: str
    cloud: Media
    boxes: np.ndarray
    labels: np.ndarray


class TrainingScenes(Dataset[Data]):
    """Augmented scenes; every random choice is seeded by (seed, epoch, scan)."""

    def __init__(self, scenes: Sequence[Scene], augmentation: Augmentation, seed: int) -> None:
        self.scenes, self.augmentation, self.seed = scenes, augmentation, seed
        self._load = CloudLoader()

    def __getitem__(self, draw: Draw) -> Data:
        """The scene of a draw, augmented."""
        scene = self.scenes[draw.sample_index]
        rng = np.random.default_rng([self.seed, draw.epoch, draw.sample_index])
        return _item(scene, *augment(self._load(scene.cloud).numpy(), scene.boxes, rng, self.augmentation))


class EvaluationScenes(Dataset[Data]):
    """Scenes without augmentation; if a scene has too many points, the subset is the same in every epoch."""

    def __init__(self, scenes: Sequence[Scene], points: int, seed: int) -> None:
        self.scenes, self.points, self.seed = scenes, points, seed
        self._load = CloudLoader()

    def __getitem__(self, index: int) -> Data:
        """One scene."""
        scene = self.scenes[index]
        rng = np.random.default_rng([self.seed, index])
        return _item(scene, fewer(self._load(scene.cloud).numpy(), self.points, rng), scene.boxes)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scenes)


class SceneBoxes(L.LightningDataModule):
    """Scans with boxes for a detector: an augmented training split, and splits for evaluation.

    A batch is a `torch_geometric.data.Batch` with points `x` (P, 6), x, y, z in metres and colours in 0..1,
    and the index of the scene of each, `batch` (P,); `boxes` (M, 6), centre and size, their class indices `labels`
    (M,), and the index of the scene of each, `boxes_batch` (M,); and `name`, the names of the scans.

    Attributes:
        classes: class names, after `setup`.
        counts: (C,) number of objects per class in the training split.
        sizes: (C, 3) their mean size in metres: longer side, shorter side, height.
        heights: (C,) mean height of their centres in metres.
    """

    classes: tuple[str, ...]
    counts: Tensor
    sizes: Tensor
    heights: Tensor

    def __init__(
        self,
        root: str,
        folder: str = ".",
        train: str = "train",
        validate: str = "val",
        test: str = "test",
        labels: Labels = "raw",
        classes: list[str] | None = None,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 - frozen, as the command line needs it
        batch_size: int = 16,
        eval_batch_size: int = 8,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
        bad: BadPolicy = "error",
    ) -> None:
        """Configures the loaders.

        Args:
            root: folder of the data.
            folder: folder of the scans, relative to the root.
            train: name of the training split, as in `scannetv2_<split>.txt`.
            validate: name of the split for `validate`.
            test: name of the split for `test`.
            labels: what the classes are: raw categories (`raw`), or the 18 classes of ScanNet's detection
                benchmark (`benchmark`; other objects are left out).
            classes: class names, in order; null takes all labels of the training split. Objects of other
                classes are left out.
            augmentation: augmentation of training scenes.
            batch_size: scenes per step and process.
            eval_batch_size: scenes per evaluation batch and process.
            samples_per_epoch: scenes per epoch over all processes; null takes the size of the training split.
            workers: worker processes of each loader.
            seed: seed of the shuffling and of the augmentation.
            bad: `error` stops at the first malformed scan or object, `skip` leaves them out and warns.

        Raises:
            ValueError: a number is out of range.
        """
        SIZE_RANGE.check(batch_size=batch_size, eval_batch_size=eval_batch_size)
        POSITIVE_INT.check(samples_per_epoch=samples_per_epoch)
        WORKERS_RANGE.check(workers=workers)
        SEED_RANGE.check(seed=seed)
        super().__init__()
        self.root, self.folder = Path(root), folder
        self.splits = {"train": train, "validate": validate, "test": test}
        self.label_kind, self.asked = labels, classes
        self.augmentation, self.seed, self.bad = augmentation, seed, bad
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.samples_per_epoch, self.workers = samples_per_epoch, workers
        self._scenes: dict[str, list[Scene]] = {}

    def setup(self, stage: str) -> None:  # noqa: ARG002 - the classes are those of training, whatever is run
        """Reads the annotations of the training split, which define the classes.

        Raises:
            ValueError: a file is malformed, or the training split has no object of a class in `classes`.
        """
        if "train" in self._scenes:
            return
        names, scans = self._names(), self._read("train")
        found = Counter(name for scan in scans for one in scan.objects.values() if (name := names(one.label)))
        self.classes = tuple(self.asked or sorted(found))
        if missing := [name for name in self.classes if not found[name]]:
            raise ValueError(
                f"the training split {self.splits['train']} has no object of class {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'none'}. Remove these names from `classes`, or change `labels`"
            )
        if not self.classes:
            raise ValueError(f"the training split {self.splits['train']} has no object of any class")
        self._scenes["train"] = self._known(scans)
        boxes, labels = (
            torch.from_numpy(np.concatenate([getattr(scene, part) for scene in self._scenes["train"]]))
            for part in ("boxes", "labels")
        )
        # Objects face any way, so sides are sorted before they are averaged.
        boxes[:, 3:5] = boxes[:, 3:5].sort(dim=1, descending=True).values
        self.counts = labels.bincount(minlength=len(self.classes))
        means = torch.stack([boxes[labels == number].mean(0) for number in range(len(self.classes))])
        self.sizes, self.heights = means[:, 3:], means[:, 2]

    def train_dataloader(self) -> DataLoader[Data]:
        """The loader of this rank's share of the training scenes, augmented."""
        scenes = self._scenes["train"]
        rank, world = rank_and_world(self)
        length = self.samples_per_epoch or len(scenes)
        sampler = MixtureSampler([len(scenes)], [1.0], length, self.batch_size, self.seed, rank, world)
        data = TrainingScenes(scenes, self.augmentation, self.seed)
        return DataLoader(data, self.batch_size, sampler=sampler, drop_last=True, **self._loading())

    def val_dataloader(self) -> DataLoader[Data]:
        """The loader of this rank's share of the validation split."""
        return self._eval_dataloader("validate")

    def test_dataloader(self) -> DataLoader[Data]:
        """The loader of this rank's share of the test split."""
        return self._eval_dataloader("test")

    def _eval_dataloader(self, stage: str) -> DataLoader[Data]:
        if stage not in self._scenes:
            self._scenes[stage] = self._known(self._read(stage))
        data = EvaluationScenes(self._scenes[stage], self.augmentation.points, self.seed)
        rank, world = rank_and_world(self)
        share = range(rank, len(data), world)  # not padded to equal lengths: a scene must be scored only once
        return DataLoader(data, self.eval_batch_size, sampler=share, **self._loading())

    def _read(self, stage: str) -> list[Scan]:
        """The scans of a split, at least one."""
        scans = read_scenes(self.root / self.folder, self.splits[stage], self.bad)
        if not scans:
            raise ValueError(f"the split {self.splits[stage]} in {self.root / self.folder} has no scan")
        return scans

    def _names(self) -> Callable[[str], str]:
        """A function from an object's label to its class name, empty for none."""
        if self.label_kind == "raw":
            return str
        numbers = nyu40_ids(self.root / self.folder)
        return lambda label: DETECTION_CLASSES.get(numbers[label], "")

    def _known(self, scans: Sequence[Scan]) -> list[Scene]:
        """The scans with their objects of known classes."""
        names, numbers = self._names(), {name: number for number, name in enumerate(self.classes)}
        scenes = []
        for scan in scans:
            kept = [one for one in scan.objects.values() if names(one.label) in numbers]
            boxes = np.array([one.box for one in kept], dtype=np.float32).reshape(len(kept), 6)
            labels = np.array([numbers[names(one.label)] for one in kept], dtype=np.int64)
            scenes.append(Scene(scan.name, scan.cloud, boxes, labels))
        return scenes

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "collate_fn": collate,
            "worker_init_fn": init_worker,
            "persistent_workers": self.workers > 0,
        }


def collate(items: list[Data]) -> Batch:
    """Collates scenes into a batch; see `SceneBoxes` for its attributes."""
    return Batch.from_data_list(items, follow_batch=["boxes"])


def _item(scene: Scene, points: np.ndarray, boxes: np.ndarray) -> Data:
    tensors = {"x": points, "boxes": boxes, "labels": scene.labels}
    return Data(name=scene.name, **{name: torch.from_numpy(array) for name, array in tensors.items()})
