"""Data module of single objects with captions and views, to align a point encoder with CLIP."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.base import rank_and_world, shard_indices
from datamodules.benchmarks import read
from datamodules.benchmarks.base import BadPolicy
from datamodules.mixture import Draw, MixtureSampler
from datamodules.pretraining.object_clouds import Facts, ObjectCloud, read_objects
from datamodules.pretraining.render import render
from datamodules.pretraining.size_baseline import SizeBaseline
from datamodules.source_instructions import random_subset
from octavius.limits import (
    FRACTION,
    POSITIVE_INT,
    POSITIVE_NUMBER,
    SEED_RANGE,
    SIZE_RANGE,
    WORKERS_RANGE,
    Range,
)
from octavius.processes import init_worker

ObjectBatch: TypeAlias = dict[str, Any]
"""A batch of objects; see `Objects`."""

CAPTIONS = (
    "{a} {thing}",
    "a photo of {a} {thing}",
    "a photo of a {thing}.",
    "a point cloud model of a {thing}.",
    "this is {a} {thing}.",
)
"""Caption templates. `{thing}` is a class, or a colour and a class; `{a}` is "a" or "an"."""

UNKNOWN = -1
"""Colour index if the colour is unknown, or if the caption does not mention it."""

MAX_VIEW_ANGLE = 0.9
"""Largest angle of a view to the front of an object, in radians."""


@dataclass(frozen=True)
class ObjectSource:
    """One split of one set of objects.

    Attributes:
        benchmark: name of a reader in `datamodules.benchmarks` for the classification of clouds, such as
            `scannet_classification` or `shapenet_classification`.
        split: name of the split in the data set.
        folder: folder of the data set, relative to the data module's root.
        name: name in logs and tables; the benchmark's by default.
        weight: relative weight in the training mixture.
        limit: use only this many objects, a random subset that is the same in every run; null uses all.
        held_out: use only objects that training never shows, according to `Objects.facts`.
    """

    benchmark: str
    split: str
    folder: str = "."
    name: str = ""
    weight: float = 1.0
    limit: int | None = None
    held_out: bool = False

    def __post_init__(self) -> None:
        """Validates the numbers."""
        POSITIVE_NUMBER.check(weight=self.weight)
        POSITIVE_INT.check(limit=self.limit)

    @property
    def title(self) -> str:
        """The name in logs and tables."""
        return self.name or self.benchmark


class Objects(L.LightningDataModule):
    """Point clouds of single objects with captions and views, for `octavius.pretraining.points`.

    A training batch has `points` (B, N, 6), not normalized; `label` (B,) and `classes`, the names of all
    labels; `text`, B captions; `colour` and `mentioned` (B,), indices of the object's colour and of the one that
    its caption mentions, -1 for none; `object` (B,), indices of the objects. A validation batch has `points`,
    `label`, `classes` (all names of the set), `index` (B,) within the set, `set`, its name, and
    `size_baseline`, the accuracy of guessing from box sizes (`SizeBaseline`, fitted to the training boxes),
    or None.

    Every scan is read once; the points in and around its objects' boxes stay in memory (at most about 0.1 MB
    per object), and crops are drawn in the workers.
    """

    def __init__(
        self,
        root: str,
        train: list[ObjectSource] | None = None,
        validate: list[ObjectSource] | None = None,
        bad: BadPolicy = "error",
        points: int = 512,
        jitter: float = 0.1,
        colours: float = 0.5,
        captions: Sequence[str] = CAPTIONS,
        views: int = 3,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        samples_per_epoch: int | None = None,
        workers: int = 1,
        seed: int = 0,
    ) -> None:
        """Stores the settings; no file is read.

        Args:
            root: folder of the data; the sources' folders are relative to it.
            train: objects to align with.
            validate: objects to classify after each epoch.
            bad: `error` stops at an invalid object, `skip` leaves those out and warns.
            points: number N of points per cloud; the encoder's `num_points`.
            jitter: perturbation of the boxes of training crops as a fraction of their sides, which makes the
                encoder robust to a detector's boxes.
            colours: fraction of captions that mention the colour, if it is known.
            captions: caption templates with `{thing}` and optionally `{a}`.
            views: number V of views per object.
            batch_size: objects per step and rank.
            eval_batch_size: objects per evaluation batch and rank.
            samples_per_epoch: objects per epoch over all ranks; null takes the number of training
                objects.
            workers: worker processes of each loader.
            seed: seed of the shuffling, the crops and the captions.

        Raises:
            ValueError: a number is out of range, or two validation sets share a name.
        """
        POSITIVE_INT.check(points=points, views=views, samples_per_epoch=samples_per_epoch)
        Range(0, 1, exclude_maximum=True).check(jitter=jitter)  # at 1 the sides of a box could shrink to 0
        FRACTION.check(colours=colours)
        SIZE_RANGE.check(batch_size=batch_size, eval_batch_size=eval_batch_size)
        WORKERS_RANGE.check(workers=workers)
        SEED_RANGE.check(seed=seed)
        super().__init__()
        self.root = Path(root).expanduser()
        self.train_sources, self.validate_sources = train or [], validate or []
        self.bad = bad
        self.points, self.jitter, self.colours, self.captions = points, jitter, colours, tuple(captions)
        self.views, self.batch_size, self.eval_batch_size = views, batch_size, eval_batch_size
        self.samples_per_epoch, self.workers, self.seed = samples_per_epoch, workers, seed
        names = [source.title for source in self.validate_sources]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"several validation sets are named {', '.join(repeated)}; set `name` to tell them apart"
            )
        self._sets: dict[ObjectSource, list[ObjectCloud]] = {}

    def facts(self, folder: Path) -> Mapping[str, Facts]:  # noqa: ARG002 - for subclasses
        """Unannotated facts about objects by sample id; empty unless a subclass knows some."""
        return {}

    def objects(self, source: ObjectSource) -> list[ObjectCloud]:
        """The objects of a source; its files are read at the first call only.

        Raises:
            ValueError: there is none, or its files are malformed.
        """
        if source not in self._sets:
            folder = self.root / source.folder
            samples, facts = read(source.benchmark, folder, source.split, self.bad), self.facts(folder)
            if source.held_out:
                samples = [sample for sample in samples if sample.id in facts and facts[sample.id].held_out]
            samples = random_subset(samples, source.limit, f"{source.benchmark}/{source.split}")
            jitter = self.jitter if source in self.train_sources else 0.0
            self._sets[source] = read_objects(samples, facts, jitter, self.bad, folder)
            if not self._sets[source]:
                kind = "held-out object" if source.held_out else "object"
                raise ValueError(f"{source.title}, split '{source.split}': no {kind} in {folder}")
        return self._sets[source]

    def training_objects(self) -> list[list[ObjectCloud]]:
        """The objects of each training source.

        Raises:
            ValueError: there is no training source.
        """
        if not self.train_sources:
            raise ValueError("there is nothing to train on; list sources under data.init_args.train")
        return [self.objects(source) for source in self.train_sources]

    def train_dataloader(self) -> DataLoader[ObjectBatch]:
        """The loader of this rank's share of the sampled mixture."""
        sets = self.training_objects()
        sizes = [len(objects) for objects in sets]
        rank, world = rank_and_world(self)
        sampler = MixtureSampler(
            sizes,
            [source.weight for source in self.train_sources],
            self.samples_per_epoch or sum(sizes),
            self.batch_size,
            self.seed,
            rank,
            world,
        )
        data = TrainingObjects(sets, self.points, self.jitter, self.colours, self.captions, self.seed)
        return DataLoader(
            data,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            worker_init_fn=init_worker,
            persistent_workers=self.workers > 0,
            collate_fn=data.collate,
            drop_last=True,
        )

    def val_dataloader(self) -> list[DataLoader[ObjectBatch]]:
        """One loader per validation set; objects are repeated where needed so that all ranks get equally many."""
        rank, world = rank_and_world(self)
        loaders = []
        for source in self.validate_sources:
            data = NamedObjects(self.objects(source), self.points, source.title, self.size_baseline(source))
            share = shard_indices(len(data), rank, world)
            loaders.append(
                DataLoader(
                    data,
                    self.eval_batch_size,
                    sampler=share,
                    num_workers=0,  # cropping takes less time than starting workers
                    collate_fn=data.collate,
                )
            )
        return loaders

    def view_dataloader(self) -> DataLoader[ObjectBatch]:
        """This rank's share of the views of all training objects: `object` (B,) and `images` (B, V, 64, 64, 3)."""
        data = ObjectViews([one for objects in self.training_objects() for one in objects], self.views)
        rank, world = rank_and_world(self)
        return DataLoader(
            data,
            self.eval_batch_size,
            sampler=range(rank, len(data), world),
            num_workers=self.workers,
            worker_init_fn=init_worker,
        )

    def size_baseline(self, source: ObjectSource) -> float | None:
        """Accuracy of guessing the classes of a validation set from the sizes of the boxes (`SizeBaseline`).

        Returns:
            A fraction; None if the set or the training objects have no boxes, or no class in common.
        """
        known = [one for objects in self.training_objects() for one in objects if one.box is not None]
        asked = [one for one in self.objects(source) if one.box is not None]
        if not known or not asked or not {one.name for one in asked} & {one.name for one in known}:
            return None
        guess = SizeBaseline([one.name for one in known], [one.box[3:6] for one in known if one.box])
        found = guess([one.box[3:6] for one in asked if one.box])
        return float(np.mean([name == one.name for name, one in zip(found, asked, strict=True)]))


class TrainingObjects(Dataset[ObjectBatch]):
    """Training objects with captions; every random choice is seeded by (seed, epoch, source, index)."""

    def __init__(
        self,
        sets: Sequence[Sequence[ObjectCloud]],
        points: int,
        jitter: float,
        colours: float,
        captions: Sequence[str],
        seed: int,
    ) -> None:
        """Indexes classes, colours and objects of all sources; for the arguments see `Objects`."""
        self.sets, self.points, self.jitter = sets, points, jitter
        self.share, self.captions, self.seed = colours, captions, seed
        everything = [one for objects in sets for one in objects]
        self.classes = tuple(sorted({one.name for one in everything}))
        self.colours = tuple(sorted({one.facts.colour for one in everything} - {""}))
        sizes = [len(objects) for objects in sets]
        self.starts = [
            sum(sizes[:index]) for index in range(len(sizes))
        ]  # offsets of the sources in `object`

    def __getitem__(self, draw: Draw) -> ObjectBatch:
        """A drawn object; crop and caption are drawn anew in every epoch."""
        one = self.sets[draw.source][draw.sample_index]
        rng = random.Random(f"{self.seed}/{draw.epoch}/{draw.source}/{draw.sample_index}")
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        colour = one.facts.colour
        mentioned = colour if rng.random() < self.share else ""
        thing = f"{mentioned} {one.name}".strip()
        form = self.captions[rng.randrange(len(self.captions))]
        return {
            "points": one.crop(self.points, self.jitter, generator),
            "label": self.classes.index(one.name),
            "text": form.format(a="an" if thing[0] in "aeiou" else "a", thing=thing),
            "colour": self.colours.index(colour) if colour else UNKNOWN,
            "mentioned": self.colours.index(mentioned) if mentioned else UNKNOWN,
            "object": self.starts[draw.source] + draw.sample_index,
        }

    def collate(self, items: Sequence[ObjectBatch]) -> ObjectBatch:
        """Collates items into a batch; `points` first, as Lightning takes the batch size from the first tensor."""
        numbers = {
            name: torch.tensor([item[name] for item in items])
            for name in ("label", "colour", "mentioned", "object")
        }
        points = torch.stack([item["points"] for item in items])
        return {
            "points": points,
            **numbers,
            "text": [item["text"] for item in items],
            "classes": self.classes,
        }


class NamedObjects(Dataset[ObjectBatch]):
    """Objects of a validation set, cropped by their annotated boxes without any randomness."""

    def __init__(
        self, objects: Sequence[ObjectCloud], points: int, title: str, size_baseline: float | None
    ) -> None:
        """Stores the objects; all objects of a set have the same candidate names."""
        self.objects, self.points = objects, points
        self.shared: ObjectBatch = {"classes": objects[0].names, "set": title, "size_baseline": size_baseline}

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> ObjectBatch:
        """One object."""
        one = self.objects[index]
        label = self.shared["classes"].index(one.name)
        return {"points": one.crop(self.points, 0, None), "label": label, "index": index}

    def collate(self, items: Sequence[ObjectBatch]) -> ObjectBatch:
        """Collates items into a batch."""
        numbers = {name: torch.tensor([item[name] for item in items]) for name in ("label", "index")}
        return {"points": torch.stack([item["points"] for item in items]), **numbers, **self.shared}


class ObjectViews(Dataset[ObjectBatch]):
    """Rendered views of objects: of their front if it is known, otherwise from all sides."""

    def __init__(self, objects: Sequence[ObjectCloud], views: int) -> None:
        """Stores the objects; views are rendered on demand."""
        self.objects, self.views = objects, views

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> ObjectBatch:
        """Views (V, 64, 64, 3), uint8, of one object, and its index."""
        one = self.objects[index]
        points = one.own_points().numpy()
        images = np.stack([render(points, yaw) for yaw in yaws(one.facts.front, self.views)])
        return {"object": index, "images": torch.from_numpy(images)}


def yaws(front: float | None, views: int) -> list[float]:
    """Yaws of the viewer in radians: evenly spaced around a front, or over the whole circle.

    >>> [round(yaw, 2) for yaw in yaws(1.0, 3)]
    [0.1, 1.0, 1.9]
    """
    if front is None:
        return [2 * np.pi * index / views for index in range(views)]
    return [front] if views == 1 else (front + np.linspace(-MAX_VIEW_ANGLE, MAX_VIEW_ANGLE, views)).tolist()
