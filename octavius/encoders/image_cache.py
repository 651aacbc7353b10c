"""A reference to a picture comes in, what a frozen tower made of it goes out: computed once, then read from disk."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from octavius.encoders.rois.roi_cache import RoiCache
from octavius.instruction.clouds import load_array
from octavius.instruction.media import Loader
from octavius.instruction.sample import Media

TOGETHER = 32
"""Pictures that are encoded at once."""


@dataclass(frozen=True)
class CachedImageLoader(Loader):
    """Reads what was computed of a picture.

    Attributes:
        cache: where it is.
        shape: (N, D), tokens of a picture and their width.
    """

    cache: RoiCache
    shape: tuple[int, int]

    def __call__(self, media: Media) -> Tensor:
        """Features (N, D), float32.

        Raises:
            ValueError: they were not computed, or the file is damaged.
        """
        file = self.cache.file(media)
        if not file.is_file():
            raise ValueError(
                f"no features of {media.path or 'an array'} in {self.cache.folder}. They are computed before the "
                "first batch: the file may have been changed since, and starting again computes them anew. Code of "
                "your own calls the encoder's `prepare` before it loads anything"
            )
        rows = load_array(file)
        if rows.shape != self.shape or rows.dtype != np.float32:
            raise ValueError(
                f"{file} is damaged: expected float32 {self.shape}, found {rows.dtype} {rows.shape}; delete it and "
                "start again"
            )
        return torch.from_numpy(rows)


def fill(
    cache: RoiCache,
    media: Iterable[Media],
    load: Callable[[Media], Tensor],
    encode: Callable[[Tensor], Tensor],
    quiet: bool,
) -> None:
    """Computes the features of all pictures that have none; what is done stays done when it is cut short.

    Args:
        cache: where to write.
        media: pictures; repeated ones are encoded once.
        load: gives the pixels of one, (3, H, W).
        encode: gives features (M, N, D) of pixels (M, 3, H, W).
        quiet: show no progress.

    Raises:
        ValueError: pictures cannot be read; told at the end, when all others are done.
    """
    problems: list[str] = []
    missing: dict[Path, Media] = {}
    for medium in media:
        try:
            file = cache.file(medium)
        except ValueError as error:
            problems.append(str(error))
            continue
        if file not in missing and not file.is_file():
            missing[file] = medium
    if missing:
        cache.open()
    with tqdm(total=len(missing), desc="encoding pictures", disable=quiet or not missing) as progress:
        files = list(missing)
        for start in range(0, len(files), TOGETHER):
            part = files[start : start + TOGETHER]
            pixels: dict[Path, Tensor] = {}
            for file in part:
                try:
                    pixels[file] = load(missing[file])
                except ValueError as error:
                    problems.append(str(error))
            if pixels:
                features = encode(torch.stack(list(pixels.values()))).float()
                for file, rows in zip(pixels, features, strict=True):
                    cache.write(file, rows, rows[:, :0])
            progress.update(len(part))
    if problems := list(dict.fromkeys(problems)):
        raise ValueError(
            f"{len(problems)} pictures cannot be encoded, the first: {problems[0]}. Mend their files, or take their "
            "samples out of the data"
        )


def nothing_told(media: Media) -> None:
    """What a picture's tokens depend on besides its file: nothing."""


def hash_of(module: nn.Module) -> str:
    """A hash of all weights of a module, with their names and types."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
