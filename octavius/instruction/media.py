"""A reference to a file or an array comes in, the tensor that an encoder takes goes out."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from octavius.instruction.sample import Media


class Loader(Protocol):
    """Turns one reference into one tensor; runs in the data workers."""

    def __call__(self, media: Media) -> Tensor:
        """The tensor of this reference."""
        ...


@dataclass(frozen=True)
class ImageLoader:
    """Opens an image, resizes it to a square and normalises it.

    The aspect ratio is not kept and nothing is cropped, so boxes in fractions of the image stay true.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, media: Media) -> Tensor:
        """Pixels (3, size, size), float32.

        Raises:
            ValueError: the file is not there, or it is not an image that can be read to its end.
        """
        if media.path is None:
            image = Image.fromarray(media.array)
        else:
            try:
                image = Image.open(media.path)
                image.load()
            except FileNotFoundError:
                raise ValueError(f"no image file at {media.path}; check the data root and the annotation file") from None
            except (UnidentifiedImageError, OSError, SyntaxError) as error:
                raise ValueError(f"{media.path} is not an image that can be read ({error}); replace or remove it") from None
        image = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (pixels - mean) / std


@dataclass(frozen=True)
class ArrayLoader:
    """Takes an array of one fixed shape as it is."""

    shape: tuple[int, ...]

    def __call__(self, media: Media) -> Tensor:
        """The array as float32.

        Raises:
            ValueError: it is a file, or an array of another shape.
        """
        if media.array is None or media.array.shape != self.shape:
            found = f"the file {media.path}" if media.array is None else f"an array of shape {media.array.shape}"
            raise ValueError(f"expected an array of shape {self.shape}, found {found}")
        return torch.from_numpy(np.ascontiguousarray(media.array, dtype=np.float32))
