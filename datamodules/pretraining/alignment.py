"""Facts of the miniature world come in, batches of pictures, captions and per-patch labels go out."""

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
)
from octavius.limits import COUNT, SEED, SIZE, WORKERS
from octavius.presets import find_checkpoint
from octavius.processes import serve

PairBatch: TypeAlias = dict[str, Any]
"""One batch of pairs, as `MiniaturePairs` describes it."""

ABSENT = -100
"""The label of a patch that a question does not apply to; what cross-entropy ignores."""

ANSWERS = {"class": (*CLASSES, "background"), "colour": COLOURS, "hair": HAIR, "smile": ("no", "yes")}
"""What each label of a patch means: classes apart from colours, so that no pair is ever a wrong answer."""


class Pictures(Dataset[dict[str, Any]]):
    """Pictures of the world with a caption each, drawn when asked for; item i is the same always.

    Args:
        place: which stream of the world, such as `clip/train`; streams share no scene.
        size: how many items.
        seed: seed of the world.
        faces: share of faces.
        singles: share of pictures of one large thing.
        shift: how the scenes differ from the training scenes.
        located: the share of captions of scenes that tell places.
    """

    def __init__(
        self,
        place: str,
        size: int,
        seed: int,
        faces: float = 0.25,
        singles: float = 0.1,
        shift: Shift = "none",
        located: float = 0.5,
    ) -> None:
        self.place, self.size, self.seed, self.shift = place, size, seed, shift
        self.faces, self.singles, self.located = faces, singles, located

    def __len__(self) -> int:
        return self.size

    def facts(self, index: int) -> Scene | Face:
        """The facts of one item."""
        return self._make(generator(self.seed, self.place, index))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = generator(self.seed, self.place, index)
        facts = self._make(rng)
        if isinstance(facts, Face):
            picture, told = draw_face(facts), face_captions(facts)
        else:
            picture, told = draw_scene(facts), captions(facts)
            if rng.random() < self.located:
                told = (positions(facts),)
        return {
            "image": torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1),
            "caption": told[int(rng.integers(len(told)))],
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
    """Turns symbolic grids (B, N, WIDTH) into one label a patch (B, N) for each entry of `ANSWERS`."""
    labels = {"class": _named(symbols[..., PARTS["class"]], len(CLASSES))}
    for part in ("colour", "hair", "smile"):
        labels[part] = _named(symbols[..., PARTS[part]], ABSENT)
    return labels


def spared_classes(symbols: Tensor) -> Tensor:
    """The class (B, N) that no training picture shows in a patch's colour, or -1.

    Held against the patch, it would teach that a colour rules a shape out.
    """
    unseen = torch.tensor([SHAPES.index(dict(HELD_OUT_PAIRS)[colour]) for colour in COLOURS])
    colours = _named(symbols[..., PARTS["colour"]], -1)
    return torch.where(colours >= 0, unseen[colours], -1)


def _named(one_hot: Tensor, otherwise: int) -> Tensor:
    return torch.where(one_hot.sum(-1) > 0, one_hot.argmax(-1), otherwise)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    """Token ids (B, T) of texts between their start and end marks, padded right to the longest."""
    assert tokenizer.bos_token is not None
    assert tokenizer.eos_token is not None
    marked = [f"{tokenizer.bos_token}{text}{tokenizer.eos_token}" for text in texts]
    encoded = tokenizer(
        marked, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt"
    )
    return encoded["input_ids"]


def collate(items: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> PairBatch:
    """Joins items to a batch; see `MiniaturePairs` for its entries."""
    grids = torch.stack([item["symbols"] for item in items])
    codes = grids[..., PARTS["box"]]
    return {
        "image": torch.stack([item["image"] for item in items]),
        "text": tokenize(tokenizer, [item["caption"] for item in items]),
        "labels": patch_labels(grids),
        "spared": {"class": spared_classes(grids)},
        "foreground": grids[..., 0] > 0,
        "box_code": codes,
        "boxes": torch.arccos(codes[..., ::WAVES].clamp(-1, 1)) / torch.pi,  # the first cosine of each edge
    }


class MiniaturePairs(lightning.LightningDataModule):
    """Pictures of the miniature world and their captions, drawn on the fly.

    A batch is a dictionary: `image` (B, 3, H, W) bytes; `text` (B, T) token ids; `labels`, for each
    question of `ANSWERS` a label (B, N) a patch, -100 where it does not apply; `spared`, answers (B, N) to
    a question that are not held against a patch, or -1; `foreground` (B, N); `box_code` (B, N, 32) and
    `boxes` (B, N, 4), of foreground patches.
    Validation gives five loaders: pictures to fit the probes on, pictures to score them on, the same
    with unseen colour and shape pairs, with the unseen drawing style, and scenes for retrieval.

    Args:
        tokenizer: folder of the tokenizer, looked for here and then among the shipped checkpoints.
        pictures: training pictures that make an epoch.
        probe_pictures: pictures that the probes are fitted on; a quarter as many score them.
        batch_size: pictures a batch.
        workers: worker processes that draw.
        seed: seed of the world.
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
        COUNT.check(pictures=pictures, probe_pictures=probe_pictures)
        SIZE.check(batch_size=batch_size)
        WORKERS.check(workers=workers)
        SEED.check(seed=seed)
        self.tokenizer, self.pictures, self.probe_pictures = tokenizer, pictures, probe_pictures
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Pictures in the order of their index; a run that starts at picture n sees those that follow."""
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
            worker_init_fn=serve,
            collate_fn=partial(collate, tokenizer=tokenizer),
            drop_last=batch_size is None,
        )
