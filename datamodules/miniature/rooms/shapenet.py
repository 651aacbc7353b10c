"""Writes complete single objects in ShapeNet55's layout: clouds without colours, normalized, y up."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import (
    CLASSES,
    HELD_OUT_STYLES,
    KINDS,
    UNSEEN_CLASSES,
    Appearance,
    draw_appearance,
)
from datamodules.miniature.rooms.sensor import whole_thing
from datamodules.miniature.world import generator

POINTS = 8192

SYNSETS = {name: f"{90_000_001 + index}" for index, name in enumerate(KINDS)}
"""Synset ids in WordNet's format, higher than those that WordNet uses."""

SUBJECTS: dict[str, tuple[str, ...]] = {
    "seen": CLASSES,
    "unseen_pairs": tuple(sorted(name for _, name in HELD_OUT_STYLES)),
    "unseen_classes": UNSEEN_CLASSES,
}
"""Classes of each world; in `unseen_pairs` those with a held-out style, as these clouds have no colours."""


def appearance_of(seed: int, world: str, split: str, name: str, index: int) -> Appearance:
    """Draws the appearance of the object of one cloud, deterministically."""
    rng = generator(seed, f"shapes/{world}/{split}/{name}", index)
    while True:
        appearance = draw_appearance(rng, name, "pairs" if world == "unseen_pairs" else "none")
        if ((appearance.style, name) in HELD_OUT_STYLES) == (world == "unseen_pairs"):
            return appearance


def cloud(appearance: Appearance) -> np.ndarray:
    """Points on the surface of an object, (POINTS, 3) float32: centred, largest distance to the centre 1, y up."""
    points, _ = whole_thing(appearance, POINTS, np.random.default_rng([appearance.detail_seed, 3]))
    points = points - points.mean(0)
    points = points / np.linalg.norm(points, axis=1).max()
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], 1).astype(np.float32)


def write_shapes(folder: Path, seed: int, world: str, split: str, each: int) -> None:
    """Writes `each` clouds per class of a world, their list and the names of their synsets."""
    clouds, lists = folder / "shapenet_pc", folder / "shapenet-55"
    clouds.mkdir(parents=True, exist_ok=True)
    lists.mkdir(exist_ok=True)
    lines = []
    for name in SUBJECTS[world]:
        for index in range(each):
            lines.append(f"{SYNSETS[name]}-{split}{index:05d}.npy")
            np.save(clouds / lines[-1], cloud(appearance_of(seed, world, split, name, index)))
    _text(lists / f"{split}.txt", "".join(f"{line}\n" for line in lines))
    _names(folder, SUBJECTS[world])


def _names(folder: Path, names: Sequence[str]) -> None:
    taxonomy = [
        {"synsetId": SYNSETS[name], "name": name, "children": [], "numInstances": 0} for name in names
    ]
    _text(folder / "taxonomy.json", json.dumps(taxonomy, indent=1))
    _text(folder / "shapenet_synset_dict.json", json.dumps({SYNSETS[name]: name for name in names}, indent=1))


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
