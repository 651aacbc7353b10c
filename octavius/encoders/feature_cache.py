"""Disk cache of frozen encoders' features, keyed by everything that they depend on.

    <cache>/<key of the encoder>/key.json                   what all features in this folder depend on
    <cache>/<key of the encoder>/<key of the medium>.npy    a row for each token of an image or object of a cloud
    <cache>/known-files.json                                see `octavius.encoders.known_files`

The first key hashes the weights and settings of the encoder, the second the content of the medium's file, its
pose and its annotated boxes. If any of these changes, so does the path, and features are computed anew. Files
under old paths are never read again and can be deleted.

A feature file is an array followed by its CRC-32. Before training, files that are damaged, non-finite or of
another shape are found and recomputed.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from octavius.encoders.known_files import digest_of, fact, recall, remember
from octavius.files import atomic_write, read_bytes, remove_partials, write_text
from octavius.instruction.sample import Media

Shape: TypeAlias = tuple[int | None, ...]
"""Shape of features; None for any length."""

KEY_FILE = "key.json"
CHECKSUM = 4
"""Bytes of the CRC-32 at the end of a feature file."""


def nothing(media: Media) -> None:
    """Default of `FeatureCache.facts_of`: features depend on the file and the pose only."""


@dataclass(frozen=True)
class FeatureCache:
    """Disk cache of one encoder's features.

    Attributes:
        root: folder of the features of all encoders.
        key: JSON text of what this encoder's features depend on.
        facts_of: returns what else the features of a medium depend on, such as annotated boxes of its objects.
    """

    root: Path
    key: str
    facts_of: Callable[[Media], Any] = nothing

    @property
    def folder(self) -> Path:
        """Folder of this encoder's features."""
        return self.root / _digest(self.key)

    def file(self, media: Media) -> Path:
        """Path of the features of a medium, whether they exist or not.

        Raises:
            ValueError: the medium's own file does not exist.
        """
        box = None if media.region is None else media.region.box or "all of the cloud"
        facts = [identity(media), media.pose, box, self.facts_of(media)]
        return self.folder / f"{_digest(json.dumps(facts))}.npy"

    def missing(self, media: Iterable[Media], shape: Shape, problems: list[str]) -> dict[Path, Media]:
        """The media whose features must be computed, without duplicates, by feature file.

        Damaged features are included, and reported.

        Args:
            media: media whose features are needed.
            shape: shape of the features of one medium.
            problems: list to which errors of media without a file are appended.
        """
        recall(self.root)
        found: dict[Path, Media] = {}
        seen: set[Path] = set()
        damaged: dict[Path, str] = {}
        for medium in media:
            try:
                file = self.file(medium)
            except ValueError as error:
                if str(error) not in problems:
                    problems.append(str(error))
                continue
            if file in seen:
                continue
            seen.add(file)
            if not file.is_file():
                found[file] = medium
            elif said := self._damage(file, shape):
                found[file], damaged[file] = medium, said
        remember(self.root)
        if damaged:
            first, said = next(iter(damaged.items()))
            rank_zero_info(
                f"{len(damaged)} feature files are damaged and are computed again, the first: {first}: {said}"
            )
        return found

    def open(self) -> None:
        """Creates the folder, removes leftovers of killed processes, and writes the key file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.folder)
        remove_partials(self.root)
        write_text(self.folder / KEY_FILE, self.key + "\n")

    def write(self, file: Path, rows: Tensor) -> None:
        """Writes the features of a medium atomically.

        Several processes may write the same file: their contents are equally good.
        """
        stream = BytesIO()
        np.save(stream, rows.float().cpu().numpy())
        content = stream.getvalue()
        with atomic_write(file, durable=False) as partial:  # damage by a power loss is found by the checksum
            partial.write_bytes(content + zlib.crc32(content).to_bytes(CHECKSUM, "little"))

    def read(self, media: Media, shape: Shape) -> Tensor:
        """The features of a medium, float32.

        Args:
            media: the medium.
            shape: expected shape.

        Raises:
            ValueError: they were not computed, or the file is damaged; it is then removed.
        """
        recall(self.root)
        file = self.file(media)
        if not file.is_file():
            raise ValueError(
                f"no features of {media.path or 'an array'} in {self.folder}. They are computed before the first "
                "batch: the file may have been changed since, and starting again computes them anew. Code of your "
                "own calls the encoder's `prepare` before it loads anything"
            )
        try:
            return torch.from_numpy(_rows(read_bytes(file), shape))
        except ValueError as error:
            file.unlink(missing_ok=True)
            raise ValueError(
                f"{file} was damaged during this run ({error}) and is removed; start again to compute it anew"
            ) from None

    def _damage(self, file: Path, shape: Shape) -> str:
        """What is wrong with a feature file, or an empty string; it is read only if it may have changed."""

        def look(stream: BinaryIO) -> str:
            try:
                _rows(stream.read(), shape)
            except ValueError as error:
                return str(error)
            return ""

        try:
            return fact(file, look)
        except OSError as error:
            return str(error)


def _rows(content: bytes, shape: Shape) -> np.ndarray:
    """The array of a feature file.

    Raises:
        ValueError: the file is damaged, or of another shape.
    """
    body, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    if not body or zlib.crc32(body).to_bytes(CHECKSUM, "little") != checksum:
        raise ValueError("its checksum does not match")
    rows = np.lib.format.read_array(BytesIO(body), allow_pickle=False)
    fits = len(rows.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, rows.shape, strict=True)
    )
    if not fits or rows.dtype != np.float32:
        sizes = ", ".join(str(size or "any") for size in shape)
        raise ValueError(f"expected float32 ({sizes}), found {rows.dtype} {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("it holds numbers that are not finite")
    return rows


def key_of(facts: Mapping[str, Any]) -> str:
    """The text of an encoder's key."""
    return json.dumps(facts, indent=2)


def identity(media: Media) -> list[Any]:
    """What distinguishes media: a hash of the content of the file or array.

    Raises:
        ValueError: the file does not exist.
    """
    if media.path is not None:
        return [digest_of(media.path)]
    array = np.ascontiguousarray(media.array)
    return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]


def content(folder: Path, *names: str) -> str:
    """A hash of the contents of some files, independent of the folder's path."""
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def hash_of(module: nn.Module) -> str:
    """A hash of a module's weights, with names and dtypes."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
