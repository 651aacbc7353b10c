"""Loaders of images and of plain arrays: from a media item to the tensor that an encoder takes.

PyTorch is imported by the loaders only, since `octavius check-data` opens images without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media
from octavius.media.pictures import check_size, open_picture

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ImageLoader(MediaLoader):
    """Opens an image (see `octavius.media.pictures`), resizes it to a square and normalizes it.

    The aspect ratio is not kept and nothing is cropped, so boxes in fractions of the image remain valid.

    Attributes:
        size: side of the square in pixels.
        mean: mean of each channel.
        std: standard deviation of each channel.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, media: Media) -> Tensor:
        """Pixels (3, size, size), float32.

        Raises:
            ValueError: the file does not exist or cannot be decoded, or the array is not an image.
        """
        import torch

        image = image_of(media)
        resized = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (pixels - mean) / std


def image_of(media: Media) -> Image.Image:
    """The image of a media item, RGB, in its own size.

    Raises:
        ValueError: the file does not exist or cannot be decoded, or the array is not an image.
    """
    return open_picture(media) if media.path is not None else _of_array(np.asarray(media.array))


def _of_array(array: np.ndarray) -> Image.Image:
    """The image of a uint8 array (H, W) or (H, W, 3)."""
    shaped = array.ndim in (2, 3) and array.shape[2:] in ((), (3,)) and array.size > 0
    if array.dtype != np.uint8 or not shaped:
        raise ValueError(
            f"expected an image array uint8 (H, W, 3) or (H, W), found {array.dtype} {array.shape}"
        )
    check_size(array.shape[1], array.shape[0])
    return Image.fromarray(array).convert("RGB")


@dataclass(frozen=True)
class ArrayLoader(MediaLoader):
    """Returns an array of one fixed shape as a tensor.

    Attributes:
        shape: the expected shape.
    """

    shape: tuple[int, ...]

    def __call__(self, media: Media) -> Tensor:
        """The array as float32.

        Raises:
            ValueError: the media item is a file, or an array of another shape.
        """
        import torch

        if media.array is None or media.array.shape != self.shape:
            what = f"the file {media.path}" if media.array is None else f"one of shape {media.array.shape}"
            raise ValueError(f"expected an array of shape {self.shape}, found {what}")
        return torch.from_numpy(np.ascontiguousarray(media.array, dtype=np.float32))
