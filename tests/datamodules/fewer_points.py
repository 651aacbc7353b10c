"""Reduces clouds to a fixed number of points, for tests without an encoder."""

from torch import Tensor

from octavius.instruction.sample import Media
from octavius.media.clouds import CloudLoader

POINTS = 5


class FewerPoints(CloudLoader):
    """Keeps the first points of a cloud."""

    def __call__(self, media: Media) -> Tensor:
        """Points (POINTS, 6)."""
        return super().__call__(media)[:POINTS]
