"""Scans in ScanNet's layout come in, batches of their points with the boxes of their objects go out."""

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

from datamodules.benchmarks.base import BadPolicy
from datamodules.benchmarks.clouds.scannet import DETECTION_CLASSES, nyu40_ids, read_scenes
from datamodules.benchmarks.clouds.scans import Scan
from datamodules.miniature.rooms.files import build
from datamodules.mixture import Draw, MixtureSampler
from datamodules.pretraining.scene_augmentation import Augmentation, augment, fewer
from octavius.instruction.clouds import CloudLoader
from octavius.instruction.sample import Media
from octavius.limits import COUNT, SEED, SIZE, WORKERS
from octavius.processes import serve

Labels: TypeAlias = Literal["raw", "benchmark"]


@dataclass(frozen=True)
class Scene:
    """A scan and what is to be found in it.

    Attributes:
        name: of the scan.
        cloud: where its points are.
        boxes: of the objects of known classes (M, 6), centre and size.
        labels: numbers of their classes (M,).
    """

    name: str
    cloud: Media
    boxes: np.ndarray
    labels: np.ndarray


class TrainingScenes(Dataset[Data]):
    """Scenes changed by chance; every choice comes from (seed, epoch, scan)."""

    def __init__(self, scenes: Sequence[Scene], augmentation: Augmentation, seed: int) -> None:
        self.scenes, self.augmentation, self.seed = scenes, augmentation, seed
        self._load = CloudLoader()

    def __getitem__(self, draw: Draw) -> Data:
        """The scene of one draw."""
        scene = self.scenes[draw.place]
        rng = np.random.default_rng([self.seed, draw.epoch, draw.place])
        return _item(scene, *augment(self._load(scene.cloud).numpy(), scene.boxes, rng, self.augmentation))


class EvaluationScenes(Dataset[Data]):
    """Scenes as they are; of one with too many points the same choice in every epoch."""

    def __init__(self, scenes: Sequence[Scene], points: int, seed: int) -> None:
        self.scenes, self.points, self.seed = scenes, points, seed
        self._load = CloudLoader()

    def __getitem__(self, place: int) -> Data:
        """One scene."""
        scene = self.scenes[place]
        rng = np.random.default_rng([self.seed, place])
        return _item(scene, fewer(self._load(scene.cloud).numpy(), self.points, rng), scene.boxes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.scenes)


class SceneBoxes(L.LightningDataModule):
    """Scans with boxes, for a detector: a training split, changed by chance, and others as they are.

    A batch is a `torch_geometric.data.Batch`: points `x` (P, 6), x, y, z in metres and colours in 0..1, and the
    scene `batch` (P,) of each; `boxes` (M, 6), centre and size, their classes `labels` (M,), and the scene
    `boxes_batch` (M,) of each; the scans' names `name`.

    Attributes:
        classes: names of the classes, once set up.
        counts: how many objects of each class the training split has (C,).
        sizes: their mean size (C, 3): the longer side, the shorter one, the height; metres.
        heights: the mean height (C,) of their centres, metres.
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
        miniature: bool = False,
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
        """Sets the loaders up.

        Args:
            root: folder of the data.
            folder: where the scans lie below the root.
            train: name of the training split, as in `scannetv2_<split>.txt`.
            validate: name of the split that validation scores.
            test: name of the split that testing scores.
            miniature: writes the miniature's rooms to the root first, if they are not there.
            labels: what an object's class is: its raw category, or its class of ScanNet's detection benchmark
                (18 classes; what is none of them is left out).
            classes: names of the classes, in order; null takes all labels of the training split. Objects of
                other classes are left out.
            augmentation: how training scenes are changed.
            batch_size: scenes in a step on one process.
            eval_batch_size: scenes scored at once on one process.
            samples_per_epoch: scenes in an epoch over all processes; null is the size of the training split.
            workers: data worker processes of each loader.
            seed: of the order and of all changes.
            bad: stops at the first broken scan or object (`error`), or leaves them out with a warning (`skip`).
        """
        SIZE.check(batch_size=batch_size, eval_batch_size=eval_batch_size)
        COUNT.check(samples_per_epoch=samples_per_epoch)
        WORKERS.check(workers=workers)
        SEED.check(seed=seed)
        super().__init__()
        self.root, self.folder, self.miniature = Path(root), folder, miniature
        self.splits = {"train": train, "validate": validate, "test": test}
        self.label_kind, self.asked = labels, classes
        self.augmentation, self.seed, self.bad = augmentation, seed, bad
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.samples_per_epoch, self.workers = samples_per_epoch, workers
        self._scenes: dict[str, list[Scene]] = {}

    def prepare_data(self) -> None:
        """Writes the miniature's rooms, where they are asked for."""
        if self.miniature:
            build(self.root)

    def setup(self, stage: str) -> None:  # noqa: ARG002 - the classes are those of training, whatever is run
        """Reads the annotations of the training split, which tell the classes."""
        if "train" in self._scenes:
            return
        names, scans = self._names(), self._read("train")
        found = Counter(name for scan in scans for one in scan.objects.values() if (name := names(one.label)))
        self.classes = tuple(self.asked or sorted(found))
        if missing := [name for name in self.classes if not found[name]]:
            raise ValueError(
                f"the training split {self.splits['train']} has no object of class {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'none'}. Leave such classes out, or change what the labels are"
            )
        if not self.classes:
            raise ValueError(f"the training split {self.splits['train']} has no object of any class")
        self._scenes["train"] = self._known(scans)
        boxes, labels = (
            torch.from_numpy(np.concatenate([getattr(scene, part) for scene in self._scenes["train"]]))
            for part in ("boxes", "labels")
        )
        boxes[:, 3:5] = boxes[:, 3:5].sort(dim=1, descending=True).values
        self.counts = labels.bincount(minlength=len(self.classes))
        means = torch.stack([boxes[labels == number].mean(0) for number in range(len(self.classes))])
        self.sizes, self.heights = means[:, 3:], means[:, 2]

    def train_dataloader(self) -> DataLoader[Data]:
        """Batches of changed scenes, in a planned order."""
        scenes = self._scenes["train"]
        rank, world = self._process()
        length = self.samples_per_epoch or len(scenes)
        sampler = MixtureSampler([len(scenes)], [1.0], length, self.batch_size, self.seed, rank, world)
        data = TrainingScenes(scenes, self.augmentation, self.seed)
        return DataLoader(data, self.batch_size, sampler=sampler, drop_last=True, **self._loading())

    def val_dataloader(self) -> DataLoader[Data]:
        """The validation split."""
        return self._eval_dataloader("validate")

    def test_dataloader(self) -> DataLoader[Data]:
        """The test split."""
        return self._eval_dataloader("test")

    def _eval_dataloader(self, stage: str) -> DataLoader[Data]:
        if stage not in self._scenes:
            self._scenes[stage] = self._known(self._read(stage))
        data = EvaluationScenes(self._scenes[stage], self.augmentation.points, self.seed)
        rank, world = self._process()
        mine = range(rank, len(data), world)  # each scene once: it is scored once
        return DataLoader(data, self.eval_batch_size, sampler=mine, **self._loading())

    def _read(self, stage: str) -> list[Scan]:
        """The scans of a split; there is one at least."""
        scans = read_scenes(self.root / self.folder, self.splits[stage], self.bad)
        if not scans:
            raise ValueError(f"the split {self.splits[stage]} in {self.root / self.folder} has no scan")
        return scans

    def _names(self) -> Callable[[str], str]:
        """What leads from a label to the name of its class, empty for none."""
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

    def _process(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "collate_fn": collate,
            "worker_init_fn": serve,
            "persistent_workers": self.workers > 0,
        }


def collate(items: list[Data]) -> Batch:
    """One batch of scenes."""
    return Batch.from_data_list(items, follow_batch=["boxes"])


def _item(scene: Scene, points: np.ndarray, boxes: np.ndarray) -> Data:
    tensors = {"x": points, "boxes": boxes, "labels": scene.labels}
    return Data(name=scene.name, **{name: torch.from_numpy(array) for name, array in tensors.items()})
