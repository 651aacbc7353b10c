"""Rendered views of furniture with captions, to train the rooms' small CLIP.

Nothing is read from disk. Half of the views show objects cropped from scanned rooms, as the point encoder gets them;
the other half show complete objects, all classes equally often.
"""

from functools import partial
from typing import Any, Literal, TypeAlias

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from datamodules.miniature.pretraining.alignment import ABSENT, tokenize
from datamodules.miniature.rooms.furniture.catalogue import CLASSES, HELD_OUT_PAIRS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.objects import (
    ViewedObject,
    World,
    appearance_in,
    appearance_like,
    crops,
    one_of,
    whole,
)
from datamodules.miniature.rooms.texts.naming import NAMES, TEMPLATES, prompts, sentence
from datamodules.miniature.world import generator
from datamodules.pretraining.render import render
from octavius.limits import POSITIVE_INT, SEED_RANGE, SIZE_RANGE, WORKERS_RANGE
from octavius.presets import find_checkpoint
from octavius.processes import init_worker

ViewBatch: TypeAlias = dict[str, Any]
"""A batch of views; see `RoomViews`."""

MENTIONS = (0.5, 0.25, 0.25)
"""Fractions of captions that mention class and colour, only the class, only the colour."""

TURNS = (8, 160)
"""Number of rooms that consecutive items alternate between, and number of items per room before the next rooms."""

FROM_ANYWHERE = 0.15
"""Fraction of views from any direction."""

MAX_ANGLE = 1.3
"""Largest angle of the other views to the front of the object, in radians."""

PITCH = (0.1, 0.7)
"""Range of the elevation of the viewer, in radians."""

COLOURLESS = 0.1
"""Fraction of complete objects without colour."""


class Views(Dataset[dict[str, Any]]):
    """Views of objects with a caption each, rendered on demand; item i is always the same.

    Args:
        stream: name of the random stream, such as `clip-rooms/train`; different streams have different rooms and
            objects.
        size: number of items.
        seed: seed of all random choices.
        world: which objects occur.
        scans: fraction of views of objects in scanned rooms.
        turns: number of rooms that consecutive items alternate between, and number of items per room.
        distinct: colour and class of each item, which its caption mentions; drawn by default.
    """

    def __init__(
        self,
        stream: str,
        size: int,
        seed: int,
        world: World = "seen",
        scans: float = 0.5,
        turns: tuple[int, int] = TURNS,
        distinct: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.stream, self.size, self.seed, self.world = stream, size, seed, world
        self.scans, self.turns, self.distinct = scans, turns, distinct

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Image (3, 64, 64), caption, class and colour, and which of them the caption mentions."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = generator(self.seed, self.stream, index)
        appearance, front, points, colourless = self.thing(index, rng)
        yaw = (
            rng.uniform(-np.pi, np.pi) if rng.random() < FROM_ANYWHERE else rng.uniform(-MAX_ANGLE, MAX_ANGLE)
        )
        image = render(points, front + yaw, rng.uniform(*PITCH))
        kind = "both" if self.distinct else str(rng.choice(tuple(TEMPLATES), p=MENTIONS))
        kind = "class" if colourless else kind
        form = TEMPLATES[kind][0 if self.distinct else int(rng.integers(len(TEMPLATES[kind])))]
        colour = ABSENT if colourless else COLOURS.index(appearance.colour)
        mentioned = (
            NAMES.index(appearance.name) if kind != "colour" else ABSENT,
            colour if kind != "class" else ABSENT,
        )
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "caption": sentence(form, appearance.name, appearance.colour),
            "class": NAMES.index(appearance.name),
            "colour": colour,
            "mentioned": mentioned,
        }

    def thing(self, index: int, rng: np.random.Generator) -> ViewedObject:
        """What an item shows: a crop from a scanned room, or a complete object."""
        if self.distinct:
            return whole(appearance_like(*self.distinct[index], rng), rng)
        if rng.random() < self.scans:
            rooms, items = self.turns
            # Consecutive items alternate between `rooms` rooms, so that a batch is varied and scans are reused.
            room = index // (rooms * items) * rooms + index % rooms
            shown = one_of(crops(self.seed, self.stream, room, self.world), rng)
            if shown is not None:
                return shown
        return whole(appearance_in(self.world, rng), rng, COLOURLESS)


def spared(part: Literal["class", "colour"]) -> Tensor:
    """Which classes (colours) are not used as negatives, because their pairs with a colour (class) are held out.

    As negatives they would teach the model that a colour rules out a class.

    Returns:
        A bool mask: for `class` (11, 31), colour of the object by class; for `colour` (37, 11), class by colour.
    """
    table = torch.tensor([[(colour, name) in HELD_OUT_PAIRS for colour in COLOURS] for name in NAMES])
    return table[: len(CLASSES)].T if part == "class" else table


def same(labels: dict[str, Tensor], mentioned: Tensor) -> Tensor:
    """Mask (B, B) of the pairs (image i, caption j) that are not negatives.

    Caption j is true of image i, or would only be false because of a held-out pair of colour and class.

    Args:
        labels: (B,) class and colour of each image.
        mentioned: (B, 2) class and colour that each caption mentions, `ABSENT` for none.
    """
    names, colours = mentioned[None, :, 0], mentioned[None, :, 1]
    name, colour = labels["class"][:, None], labels["colour"][:, None]
    painted = (colours == colour) | (colours == ABSENT) | (colour == ABSENT)
    fits = ((names == name) | (names == ABSENT)) & painted
    table = spared("colour")
    never_named = (colours == ABSENT) & (colour != ABSENT) & table[names.clamp_min(0), colour.clamp_min(0)]
    never_painted = (names == ABSENT) & table[name, colours.clamp_min(0)]
    return fits | never_named | never_painted


def collate(items: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, asked: Any = None) -> ViewBatch:
    """Collates items into a batch; see `RoomViews` for its entries."""
    labels = {part: torch.tensor([item[part] for item in items]) for part in ("class", "colour")}
    mentioned = torch.tensor([item["mentioned"] for item in items])
    no_colour = (labels["colour"] == ABSENT)[:, None]
    batch = {
        "image": torch.stack([item["image"] for item in items]),
        "text": tokenize(tokenizer, [item["caption"] for item in items]),
        "labels": labels,
        "spared": {
            "class": spared("class")[labels["colour"].clamp_min(0)] & ~no_colour,
            "colour": spared("colour")[labels["class"]],
        },
        "same": same(labels, mentioned),
    }
    return batch if asked is None else batch | {"asked": asked}


class RoomViews(lightning.LightningDataModule):
    """Views of furniture with captions, rendered on the fly.

    A batch is a dictionary: `image` (B, 3, 64, 64) uint8; `text` (B, T) token ids; `labels`, indices `class` and
    `colour` (B,) of each view, -100 for a view without colour; `spared`, for both the mask (B, C) of the values that
    are not used as negatives; `same`, the mask (B, B) of captions that are not negatives of a view; in validation
    also `asked`, for both the token ids (S, C, T) of S sentences about each value.

    There are five validation loaders: new complete objects, new objects in scans, combinations and classes
    that training never shows, and 100 different pairs of colour and class for retrieval.

    Args:
        tokenizer: folder of the tokenizer: a path, or a name among the shipped checkpoints.
        views: training views per epoch.
        probe_views: views per validation loader.
        batch_size: views per batch.
        workers: worker processes, which render the views.
        seed: seed of all random choices.
    """

    def __init__(
        self,
        tokenizer: str = "miniature/clip_rooms",
        views: int = 128_000,
        probe_views: int = 400,
        batch_size: int = 64,
        workers: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        POSITIVE_INT.check(views=views, probe_views=probe_views)
        SIZE_RANGE.check(batch_size=batch_size)
        WORKERS_RANGE.check(workers=workers)
        SEED_RANGE.check(seed=seed)
        self.tokenizer, self.views, self.probe_views = tokenizer, views, probe_views
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def train_dataloader(self) -> DataLoader[ViewBatch]:
        """Training views in order of their index."""
        return self._loader(Views("clip-rooms/train", self.views, self.seed), None)

    def val_dataloader(self) -> list[DataLoader[ViewBatch]]:
        """Five loaders, in the order of `octavius.pretraining.views.VALIDATION`."""
        pairs = [(c, n) for c in COLOURS for n in CLASSES if (c, n) not in HELD_OUT_PAIRS]
        order = generator(self.seed, "clip-rooms/pairs", 0).permutation(len(pairs))[:100]
        chosen = tuple(pairs[index] for index in order)
        few, few_each = self.probe_views, (1, 16)
        return [
            self._loader(Views("clip-rooms/whole", few, self.seed, scans=0), CLASSES),
            self._loader(Views("clip-rooms/scans", few, self.seed, scans=1, turns=few_each), CLASSES),
            self._loader(
                Views("clip-rooms/unseen-pairs", few, self.seed, "unseen_pairs", turns=few_each), CLASSES
            ),
            self._loader(
                Views("clip-rooms/unseen-classes", few, self.seed, "unseen_classes", turns=few_each), NAMES
            ),
            self._loader(Views("clip-rooms/retrieval", 100, self.seed, distinct=chosen), CLASSES),
        ]

    def _loader(self, views: Views, asked: tuple[str, ...] | None) -> DataLoader[ViewBatch]:
        """A loader; for validation, with the candidate classes."""
        tokenizer = AutoTokenizer.from_pretrained(find_checkpoint(self.tokenizer))
        texts = None if asked is None else prompts(partial(tokenize, tokenizer), asked)
        return DataLoader(
            views,
            batch_size=self.batch_size if asked is None else 100,
            num_workers=self.workers,
            worker_init_fn=init_worker,
            collate_fn=partial(collate, tokenizer=tokenizer, asked=texts),
            drop_last=asked is None,
        )
