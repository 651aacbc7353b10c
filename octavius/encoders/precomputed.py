"""Pass-through encoder for precomputed features, with optional noise in training."""

import torch
from torch import Tensor

from octavius.encoders.base import Encoder
from octavius.instruction.media_loader import MediaLoader
from octavius.limits import NON_NEGATIVE_NUMBER, PROBABILITY_BELOW_1, SIZE_RANGE
from octavius.media.images import ArrayLoader


class PrecomputedFeatures(Encoder):
    """Pass-through encoder for arrays (N, width), such as a symbolic grid of a drawn scene."""

    def __init__(self, num_tokens: int, width: int, noise: float = 0.0, drop: float = 0.0) -> None:
        """Sets the shape and the training noise.

        Args:
            num_tokens: number of vectors per medium.
            width: length of a vector.
            noise: standard deviation of the Gaussian noise added in training.
            drop: probability of zeroing a vector in training.
        """
        SIZE_RANGE.check(num_tokens=num_tokens, width=width)
        NON_NEGATIVE_NUMBER.check(noise=noise)
        PROBABILITY_BELOW_1.check(drop=drop)
        super().__init__()
        self.num_tokens, self.width = num_tokens, width
        self.noise, self.drop = noise, drop

    def loader(self) -> MediaLoader:
        """Loads arrays of exactly (num_tokens, width)."""
        return ArrayLoader((self.num_tokens, self.width))

    def dummy_input(self) -> Tensor:
        """One medium of zeros (1, num_tokens, width)."""
        return torch.zeros(1, self.num_tokens, self.width)

    def forward(self, media: Tensor) -> Tensor:
        """Features (M, N, width) unchanged, or with noise in training."""
        if not self.training:
            return media
        kept = torch.rand(media.shape[:2], device=media.device) >= self.drop
        return media * kept[..., None] + self.noise * torch.randn_like(media)
