"""CIFAR-10 classification from its pickled batches; the images are kept in memory.

The official files are pickles of Python 2. Copies written by Python 3, with keys of type `bytes` or `str`, are read
as well.
"""

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.base import DAMAGED, BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.pickles import as_text, load_pickle
from datamodules.benchmarks.values import shown
from octavius.instruction.sample import ClassName, Media, Sample
from octavius.suggestions import nearest

LAYOUT = """\
  <root>/batches.meta         the names of the classes; or all in <root>/cifar-10-batches-py
  <root>/data_batch_1 .. 5    split train
  <root>/test_batch           split test
"""

BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""Names of the labels 0 to 9, as in `batches.meta`."""

SIDE = 32
PIXELS = 3 * SIDE * SIDE


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image of the split; images are arrays (32, 32, 3), uint8, not files.

    With `bad="skip"`, an image whose label is out of range is left out. A missing or malformed batch file is an error
    all the same, as thousands of images would be left out.

    Raises:
        ValueError: the split is unknown, a batch is malformed, or a label is out of range (with `bad="error"`).
    """
    folder = need(root, LAYOUT, "batches.meta", "cifar-10-batches-py/batches.meta").parent
    if split not in BATCHES:
        raise ValueError(
            f"CIFAR-10 has no split '{split}'{nearest(split, BATCHES)}; it has {', '.join(BATCHES)}"
        )
    size = _images_per_batch(folder / "batches.meta")
    files = [need(folder, LAYOUT, name) for name in BATCHES[split]]
    known = {*BATCHES["train"], *BATCHES["test"]}
    if extra := sorted(file.name for file in folder.glob("*_batch*") if file.name not in known):
        raise ValueError(
            f"{folder} holds {', '.join(extra[:5])}, which CIFAR-10 does not have; remove these files"
        )
    samples = []
    for file in files:
        images, labels = _batch(file, size)
        items = BadItems(bad, file)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            with items.guard(f"image {index}"):
                if type(label) is not int or not 0 <= label < len(CLASSES):
                    raise BadItemError(f"its label should be 0 to {len(CLASSES) - 1}, found {shown(label)}")
                media = {"image": Media(array=image)}
                gold = ClassName(CLASSES[label], CLASSES)
                samples.append(Sample(f"{file.name}-{index}", "classification", "cifar10", media, "", gold))
        items.report()
    return samples


def _images_per_batch(file: Path) -> int:
    """Number of images per batch; checks the class names on the way."""
    meta = load_pickle(file)
    names, size = meta.get("label_names"), meta.get("num_cases_per_batch")
    texts = [as_text(name) for name in names] if isinstance(names, list) else []
    if not all(isinstance(text, str) for text in texts) or tuple(texts) != CLASSES:
        raise ValueError(
            f"{file}: expected the label_names {', '.join(CLASSES)}, found {shown(names)}; is it CIFAR-10?"
        )
    if type(size) is not int or size < 1:
        raise ValueError(
            f"{file}: num_cases_per_batch should be a positive whole number, found {shown(size)}"
        )
    return size


def _batch(file: Path, size: int) -> tuple[np.ndarray, list[Any]]:
    """Images (N, 32, 32, 3) uint8, and labels, of a batch file."""
    batch = load_pickle(file)
    data, labels = batch.get("data"), batch.get("labels")
    if isinstance(labels, np.ndarray) and labels.ndim == 1:  # some re-written copies have an array
        labels = labels.tolist()
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,):
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else f"{shown(data)}"
        raise ValueError(f"{file}: expected images as 'data', uint8 (N, {PIXELS}), found {found}. {DAMAGED}")
    if not isinstance(labels, list):
        raise ValueError(
            f"{file}: expected a list 'labels'; found the keys {sorted(batch)}. Is it a batch of CIFAR-10?"
        )
    if not len(data) == len(labels) == size:
        raise ValueError(
            f"{file}: expected {size} images as batches.meta says, found {len(data)} images and {len(labels)} "
            f"labels. {DAMAGED}"
        )
    planes = data.reshape(size, 3, SIDE, SIDE)  # stored as planes: red, green, blue
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
