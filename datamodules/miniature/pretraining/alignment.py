"""Image-caption pairs with patch labels, to train the miniature's small CLIP."""

from functools import partial
from typing import Any, TypeAlias

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from datamodules.miniature.draw import draw_face, draw_scene
from datamodules.miniature.symbolic import CLASSES, PARTS, WAVES, symbols
from datamodules.miniature.text import captions, face_captions, positions
from datamodules.miniature.world import (
    COLOURS,
    HAIR,
    HELD_OUT_PAIRS,
    SHAPES,
    Face,
    Scene,
    Shift,
    generator,
    make_face,
    make_scene,
    make_single,
    pick,
)
from octavius.limits import POSITIVE_INT, SEED_RANGE, SIZE_RANGE, WORKERS_RANGE
from octavius.presets import find_checkpoint
from octavius.processes import init_worker

PairBatch: TypeAlias = dict[str, Any]
"""A batch of pairs; see `MiniaturePairs`."""

ABSENT = -100
"""Label that does not apply to a patch, such as hair on a ball; the `ignore_index` of PyTorch's cross-entropy."""

ANSWERS = {"class": (*CLASSES, "background"), "colour": COLOURS, "hair": HAIR, "smile": ("no", "yes")}
"""Names of the values of each patch label.

Class and colour are separate labels, so that a held-out pair of them is never a negative.
"""


class Pictures(Dataset[dict[str, Any]]):
    """Images with a caption each, drawn on demand; item i is always the same.

    Args:
        stream: name of the random stream, such as `clip/train`; different streams have different scenes.
        size: number of items.
        seed: seed of all random choices.
        faces: fraction of faces.
        singles: fraction of images of one large object.
        shift: how the scenes differ from the training scenes.
        located: fraction of scene captions that mention positions.
    """

    def __init__(
        self,
        stream: str,
        size: int,
        seed: int,
        faces: float = 0.25,
        singles: float = 0.1,
        shift: Shift = "none",
        located: float = 0.5,
    ) -> None:
        self.stream, self.size, self.seed, self.shift = stream, size, seed, shift
        self.faces, self.singles, self.located = faces, singles, located

    def __len__(self) -> int:
        return self.size

    def facts(self, index: int) -> Scene | Face:
        """The scene or face that an item shows."""
        return self._make(generator(self.seed, self.stream, index))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = generator(self.seed, self.stream, index)
        facts = self._make(rng)
        if isinstance(facts, Face):
            image, texts = draw_face(facts), face_captions(facts)
        else:
            image, texts = draw_scene(facts), captions(facts)
            if rng.random() < self.located:
                texts = (positions(facts),)
        return {
            "image": torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1),
            "caption": pick(rng, texts),
            "symbols": torch.from_numpy(symbols(facts)),
        }

    def _make(self, rng: np.random.Generator) -> Scene | Face:
        kind = rng.random()
        if kind < self.faces:
            return make_face(rng, self.shift)
        return (
            make_single(rng, self.shift) if kind < self.faces + self.singles else make_scene(rng, self.shift)
        )


def patch_labels(symbols: Tensor) -> dict[str, Tensor]:
    """Converts symbolic grids (B, N, WIDTH) to patch labels (B, N) for each entry of `ANSWERS`."""
    labels = {"class": _named(symbols[..., PARTS["class"]], len(CLASSES))}
    for part in ("colour", "hair", "smile"):
        labels[part] = _named(symbols[..., PARTS[part]], ABSENT)
    return labels


def spared_classes(symbols: Tensor) -> Tensor:
    """For each patch, the index (B, N) of the class that is held out in its colour, or -1 if it has no colour.

    As a negative, this class would teach the model that a colour rules out a shape.
    """
    unseen = torch.tensor([SHAPES.index(dict(HELD_OUT_PAIRS)[colour]) for colour in COLOURS])
    colours = _named(symbols[..., PARTS["colour"]], -1)
    return torch.where(colours >= 0, unseen[colours], -1)


def _named(one_hot: Tensor, otherwise: int) -> Tensor:
    """Indices (B, N) of one-hot vectors (B, N, C); `otherwise` for vectors of zeros."""
    return torch.where(one_hot.sum(-1) > 0, one_hot.argmax(-1), otherwise)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    """Token ids (B, T) of texts between start and end token, right-padded to the longest."""
    assert tokenizer.bos_token is not None
    assert tokenizer.eos_token is not None
    marked = [f"{tokenizer.bos_token}{text}{tokenizer.eos_token}" for text in texts]
    encoded = tokenizer(
        marked, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt"
    )
    return encoded["input_ids"]


def collate(items: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> PairBatch:
    """Collates items into a batch; see `MiniaturePairs` for its entries."""
    grids = torch.stack([item["symbols"] for item in items])
    codes = grids[..., PARTS["box"]]
    return {
        "image": torch.stack([item["image"] for item in items]),
        "text": tokenize(tokenizer, [item["caption"] for item in items]),
        "labels": patch_labels(grids),
        "spared": {"class": spared_classes(grids)},
        "foreground": grids[..., 0] > 0,
        "box_code": codes,
        # The first cosine of each edge, cos(pi x), is invertible on 0..1.
        "boxes": torch.arccos(codes[..., ::WAVES].clamp(-1, 1)) / torch.pi,
    }


class MiniaturePairs(lightning.LightningDataModule):
    """Images with captions, drawn on the fly.

    A batch is a dictionary: `image` (B, 3, H, W) uint8; `text` (B, T) token ids; `labels`, for each key of
    `ANSWERS` the patch labels (B, N), -100 where they do not apply; `spared`, for the key `class` the class (B, N)
    that is not used as a negative, or -1; `foreground` (B, N) bool; `box_code` (B, N, 32) and `boxes` (B, N, 4),
    edges in 0..1, of foreground patches.

    There are five validation loaders: images to fit the probes on, images to score them on, the same with
    unseen pairs of colour and shape, and with an unseen drawing style, and scenes for retrieval.

    Args:
        tokenizer: folder of the tokenizer: a path, or a name among the shipped checkpoints.
        pictures: training images per epoch.
        probe_pictures: images to fit the probes on; a quarter as many score them.
        batch_size: images per batch.
        workers: worker processes, which draw the images.
        seed: seed of all random choices.
    """

    def __init__(
        self,
        tokenizer: str = "miniature/clip",
        pictures: int = 128_000,
        probe_pictures: int = 2_000,
        batch_size: int = 16,
        workers: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        POSITIVE_INT.check(pictures=pictures, probe_pictures=probe_pictures)
        SIZE_RANGE.check(batch_size=batch_size)
        WORKERS_RANGE.check(workers=workers)
        SEED_RANGE.check(seed=seed)
        self.tokenizer, self.pictures, self.probe_pictures = tokenizer, pictures, probe_pictures
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Training images in order of their index, so that a resumed run continues with new ones."""
        return self._loader(Pictures("clip/train", self.pictures, self.seed))

    def val_dataloader(self) -> list[DataLoader[PairBatch]]:
        """Five loaders, in the order of `octavius.pretraining.clip.VALIDATION`."""
        few = max(self.probe_pictures // 4, 1)
        sets = [
            Pictures("clip/probe", self.probe_pictures, self.seed),
            Pictures("clip/val", few, self.seed),
            Pictures("clip/pairs", few, self.seed, shift="pairs"),
            Pictures("clip/style", few, self.seed, shift="style"),
            Pictures("clip/retrieval", 200, self.seed, faces=0, singles=0, located=1),
        ]
        return [self._loader(pictures, 100) for pictures in sets]

    def _loader(self, pictures: Pictures, batch_size: int | None = None) -> DataLoader[PairBatch]:
        tokenizer = AutoTokenizer.from_pretrained(find_checkpoint(self.tokenizer))
        return DataLoader(
            pictures,
            batch_size=batch_size or self.batch_size,
            num_workers=self.workers,
            worker_init_fn=init_worker,
            collate_fn=partial(collate, tokenizer=tokenizer),
            drop_last=batch_size is None,
        )
