"""Computes and loads cached features of images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from octavius.encoders.base import UnreadableMediaError
from octavius.encoders.feature_cache import FeatureCache
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media

TOGETHER = 32
"""Images per forward pass."""


@dataclass(frozen=True)
class CachedImageLoader(MediaLoader):
    """Loads cached features instead of the image.

    Attributes:
        cache: the cache.
        shape: (N, D), number of tokens per image and their width.
    """

    cache: FeatureCache
    shape: tuple[int, int]

    def __call__(self, media: Media) -> Tensor:
        """Features (N, D), float32.

        Raises:
            ValueError: they were not computed, or the file is damaged.
        """
        return self.cache.read(media, self.shape)


def fill(
    cache: FeatureCache,
    media: Iterable[Media],
    load: Callable[[Media], Tensor],
    encode: Callable[[Tensor], Tensor],
    shape: tuple[int, int],
    quiet: bool,
) -> None:
    """Computes the features of all images that are not cached; what is done survives an interruption.

    Args:
        cache: the cache.
        media: images; duplicates are encoded once.
        load: returns the pixels of an image, (3, H, W).
        encode: maps pixels (M, 3, H, W) to features (M, N, D).
        shape: (N, D).
        quiet: show no progress bar.

    Raises:
        UnreadableMediaError: images cannot be read; raised after all others are done.
    """
    problems: list[str] = []
    missing = cache.missing(media, shape, problems)
    if missing:
        cache.open()
    with tqdm(total=len(missing), desc="encoding images", disable=quiet or not missing) as progress:
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
                    if rows.isfinite().all():
                        cache.write(file, rows)
                    else:
                        problems.append(f"{missing[file].path or 'an array'}: its features are not finite")
            progress.update(len(part))
    if problems := list(dict.fromkeys(problems)):
        raise UnreadableMediaError(
            f"{len(problems)} images cannot be encoded, the first: {problems[0]}. Replace the files, or remove their "
            "samples from the data"
        )
