"""A reference to a cloud comes in, the file with the features of its objects goes out: computed once, then read.

    <cache>/<key of the encoder>/key.json                     what all features in this folder depend on
    <cache>/<key of the encoder>/<key of the medium>.npy      (O, width + 6): features, centre and size of boxes

The first key is made of the weights and settings of the encoder, the second of the cloud's file (its path, size
and time of change), its pose, and the boxes that were told with it. Where anything of that changes, so does the
name, and features are computed anew. Files of old names are never read again and can be deleted.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from octavius.instruction.clouds import load_array
from octavius.instruction.rois import RoiLoader, rois_of
from octavius.instruction.sample import Media

KEY_FILE = "key.json"


@dataclass(frozen=True)
class RoiCache:
    """Where features are.

    Attributes:
        root: the folder of all features, of any encoder.
        key: what features of this encoder depend on, in words, as JSON.
        told: what else they depend on that is told with one medium, such as boxes of its objects.
    """

    root: Path
    key: str
    told: Callable[[Media], Any]

    @property
    def folder(self) -> Path:
        """The folder of this encoder's features."""
        return self.root / _digest(self.key)

    def file(self, media: Media) -> Path:
        """The file of a medium, whether it is there or not.

        Raises:
            ValueError: there is no file of its cloud.
        """
        box = None if media.region is None else media.region.box or "all of the cloud"
        words = [identity(media), media.pose, box, self.told(media)]
        return self.folder / f"{_digest(json.dumps(words))}.npy"

    def open(self) -> None:
        """Makes the folder, and writes in it what the features depend on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _whole(self.folder / KEY_FILE) as partial:
            partial.write_text(self.key + "\n", encoding="utf-8")

    def write(self, file: Path, features: Tensor, boxes: Tensor) -> None:
        """Writes features (O, width) and boxes (O, 6) of a medium: whole, or not at all.

        Several processes may write the same file: what is there last is as good as what was there first.
        """
        rows = torch.cat([features, boxes], dim=1).float().cpu().numpy()
        with _whole(file) as partial, partial.open("wb") as stream:
            np.save(stream, rows)


@dataclass(frozen=True)
class CachedRoiLoader(RoiLoader):
    """Reads what was computed of a medium.

    Attributes:
        cache: where it is.
    """

    cache: RoiCache

    def __call__(self, media: Media) -> Data:
        """Features and boxes of all objects, float32.

        Raises:
            ValueError: they were not computed, or the file is damaged.
        """
        file = self.cache.file(media)
        if not file.is_file():
            raise ValueError(
                f"no features of the objects of {media.path or 'an array'} in {self.cache.folder}. They are computed "
                "before the first batch: the file may have been changed since, and starting again computes them "
                "anew. Code of your own calls the encoder's `prepare` before it loads anything"
            )
        rows = load_array(file)
        if rows.ndim != 2 or rows.dtype != np.float32:
            raise ValueError(f"{file} is damaged: found {rows.dtype} {rows.shape}; delete it and start again")
        return rois_of(torch.from_numpy(rows[:, :-6].copy()), torch.from_numpy(rows[:, -6:].copy()))


def key_of(words: Mapping[str, Any]) -> str:
    """What features depend on as the text of a key."""
    return json.dumps(words, indent=2)


def identity(media: Media) -> list[Any]:
    """What tells one cloud from another: of a file its path, size and time of change, of an array its content."""
    if media.path is not None:
        return file_identity(media.path)
    array = np.ascontiguousarray(media.array)
    return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]


def file_identity(path: Path) -> list[Any]:
    """Path, size and time of change of a file.

    Raises:
        ValueError: there is none.
    """
    try:
        found = path.stat()
    except OSError:
        raise ValueError(f"no file at {path}; check the data root and the annotation file") from None
    return [os.path.abspath(path), found.st_size, found.st_mtime_ns]


def content(folder: Path, *names: str) -> str:
    """A hash of the content of some files of a folder, wherever it lies."""
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """Gives a name to write to, which takes the file's place at the end, unless something went wrong."""
    partial = file.with_name(f".{file.name}-{uuid4().hex[:8]}")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
