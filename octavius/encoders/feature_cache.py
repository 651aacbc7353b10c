"""Features that a frozen encoder makes of a medium: computed once, then read from disk.

    <cache>/<key of the encoder>/key.json                     what all features in this folder depend on
    <cache>/<key of the encoder>/<key of the medium>.npy      a row for each token of a picture or object of a cloud
    <cache>/known-files.json                                  see `octavius.encoders.known_files`

The first key is made of the weights and settings of the encoder, the second of the content of the medium's file, its
pose, and the boxes that were told with it. Where anything of that changes, so does the name, and features are
computed anew. Files of old names are never read again and can be deleted.

Each file of features ends with its CRC-32, after the array. Before training begins, those that are damaged, of
another shape or not finite are found and made anew.
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
from octavius.files import remove_partials, replacing, write_text
from octavius.instruction.sample import Media

Shape: TypeAlias = tuple[int | None, ...]
"""Of features; None for a length that may be any."""

KEY_FILE = "key.json"
CHECKSUM = 4
"""Bytes of the CRC-32 at the end of a file of features."""


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

    def missing(self, media: Iterable[Media], shape: Shape, problems: list[str]) -> dict[Path, Media]:
        """The media whose features are to be computed, each once, by their files.

        Features that are there, but damaged, are among them, and that is said.

        Args:
            media: what features are wanted of.
            shape: of the features of one.
            problems: takes what is wrong with media that have no file.
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
                f"{len(damaged)} files of features are damaged and are made anew, the first: {first}: {said}"
            )
        return found

    def open(self) -> None:
        """Makes the folder, removes what killed processes left there, and writes what the features depend on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.folder)
        remove_partials(self.root)
        write_text(self.folder / KEY_FILE, self.key + "\n")

    def write(self, file: Path, rows: Tensor) -> None:
        """Writes the features of a medium: whole, or not at all.

        Several processes may write the same file: what is there last is as good as what was there first.
        """
        stream = BytesIO()
        np.save(stream, rows.float().cpu().numpy())
        content = stream.getvalue()
        with replacing(
            file, durable=False
        ) as partial:  # what a loss of power leaves is found by its checksum
            partial.write_bytes(content + zlib.crc32(content).to_bytes(CHECKSUM, "little"))

    def read(self, media: Media, shape: Shape) -> Tensor:
        """The features of a medium, float32.

        Args:
            media: what they are of.
            shape: theirs.

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
            return torch.from_numpy(_rows(file.read_bytes(), shape))
        except ValueError as error:
            file.unlink(missing_ok=True)
            raise ValueError(
                f"{file} was damaged while this run went on ({error}) and is removed; start again, it is made anew"
            ) from None

    def _damage(self, file: Path, shape: Shape) -> str:
        """What is wrong with a file of features, or nothing; it is read only if it may have changed."""

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
    """The array of a file of features.

    Raises:
        ValueError: it is damaged, or of another shape.
    """
    body, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    if not body or zlib.crc32(body).to_bytes(CHECKSUM, "little") != checksum:
        raise ValueError("its checksum is another")
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


def key_of(words: Mapping[str, Any]) -> str:
    """What features depend on as the text of a key."""
    return json.dumps(words, indent=2)


def identity(media: Media) -> list[Any]:
    """What tells one medium from another: the content of its file, or of the array.

    Raises:
        ValueError: its file is not there.
    """
    if media.path is not None:
        return [digest_of(media.path)]
    array = np.ascontiguousarray(media.array)
    return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]


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
