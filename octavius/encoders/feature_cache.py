"""A reference to a medium comes in, what a frozen encoder made of it goes out: computed once, then read from disk.

    <cache>/<key of the encoder>/key.json                     what all features in this folder depend on
    <cache>/<key of the encoder>/<key of the medium>.npy      a row for each place of a picture or object of a cloud

The first key is made of the weights and settings of the encoder, the second of the medium's file (its path, size
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
from torch import Tensor, nn

from octavius.instruction.clouds import load_array
from octavius.instruction.sample import Media

KEY_FILE = "key.json"


def nothing(media: Media) -> None:
    """What features depend on besides a medium's file and pose, where that is all."""


@dataclass(frozen=True)
class FeatureCache:
    """Where features are.

    Attributes:
        root: the folder of all features, of any encoder.
        key: what features of this encoder depend on, in words, as JSON.
        told: what else they depend on that is told with one medium, such as boxes of its objects.
    """

    root: Path
    key: str
    told: Callable[[Media], Any] = nothing

    @property
    def folder(self) -> Path:
        """The folder of this encoder's features."""
        return self.root / _digest(self.key)

    def file(self, media: Media) -> Path:
        """The file of a medium, whether it is there or not.

        Raises:
            ValueError: the medium's own file is not there.
        """
        box = None if media.region is None else media.region.box or "all of the cloud"
        words = [identity(media), media.pose, box, self.told(media)]
        return self.folder / f"{_digest(json.dumps(words))}.npy"

    def open(self) -> None:
        """Makes the folder, and writes in it what the features depend on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _whole(self.folder / KEY_FILE) as partial:
            partial.write_text(self.key + "\n", encoding="utf-8")

    def write(self, file: Path, rows: Tensor) -> None:
        """Writes the features of a medium: whole, or not at all.

        Several processes may write the same file: what is there last is as good as what was there first.
        """
        with _whole(file) as partial, partial.open("wb") as stream:
            np.save(stream, rows.float().cpu().numpy())

    def read(self, media: Media, shape: tuple[int | None, ...]) -> Tensor:
        """The features of a medium, float32.

        Args:
            media: what they are of.
            shape: theirs; None for a length that may be any.

        Raises:
            ValueError: they were not computed, or the file is damaged.
        """
        file = self.file(media)
        if not file.is_file():
            raise ValueError(
                f"no features of {media.path or 'an array'} in {self.folder}. They are computed before the first "
                "batch: the file may have been changed since, and starting again computes them anew. Code of your "
                "own calls the encoder's `prepare` before it loads anything"
            )
        rows = load_array(file)
        fits = len(rows.shape) == len(shape) and all(
            wanted in (None, found) for wanted, found in zip(shape, rows.shape, strict=True)
        )
        if not fits or rows.dtype != np.float32:
            raise ValueError(
                f"{file} is damaged: expected float32 ({', '.join(str(size or 'any') for size in shape)}), found "
                f"{rows.dtype} {rows.shape}; delete it and start again"
            )
        return torch.from_numpy(rows)


def key_of(words: Mapping[str, Any]) -> str:
    """What features depend on as the text of a key."""
    return json.dumps(words, indent=2)


def identity(media: Media) -> list[Any]:
    """What tells one medium from another: of a file its path, size and time of change, of an array its content."""
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


def hash_of(module: nn.Module) -> str:
    """A hash of all weights of a module, with their names and types."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
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
