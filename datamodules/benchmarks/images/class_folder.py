"""Image classification from one folder per class, as in torchvision's `ImageFolder`."""

import os
from pathlib import Path

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.values import printable, text
from octavius.instruction.sample import ClassName, Media, Sample

LAYOUT = """\
  <root>/<split>/<class name>/*.png     or .jpg, .jpeg, .webp, .gif, .bmp, .tif, .tiff, .ppm
"""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image; the candidate names are those of all class folders of the split, sorted.

    A class folder without images is a bad item, because it usually means an incomplete copy.
    """
    folder = need(root, LAYOUT, f"{split}/")
    items = BadItems(bad, folder)
    files: dict[str, list[str]] = {}
    for name in _entries(folder):
        if (folder / name).is_dir():
            with items.guard(f"class folder '{printable(name)}'"):
                text(name, "its name, which is that of the class,")
                files[name] = _images(folder / name)
    names = tuple(files)
    samples = []
    for name, found in files.items():
        gold = ClassName(name, names)
        for file in found:
            media = {"image": Media(path=folder / name / file)}
            key = printable(f"{name}/{file}")
            samples.append(Sample(key, "classification", "class_folder", media, "", gold))
    items.report()
    return samples


def _entries(folder: Path) -> list[str]:
    """The names in a folder without hidden ones, sorted."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _images(folder: Path) -> list[str]:
    images = [name for name in _entries(folder) if name.lower().endswith(SUFFIXES)]
    if not images:
        raise BadItemError(f"expected images ({', '.join(SUFFIXES)}), found none")
    return images
