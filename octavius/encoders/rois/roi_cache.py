"""Loader of cached features and boxes of a cloud's objects."""

from dataclasses import dataclass

from torch_geometric.data import Data

from octavius.encoders.feature_cache import FeatureCache
from octavius.instruction.sample import Media
from octavius.media.rois import RoiLoader, rois_of

BOX = 6
"""Numbers of a box, centre and size, at the end of an object's row."""


@dataclass(frozen=True)
class CachedRoiLoader(RoiLoader):
    """Loads cached features and boxes instead of the cloud.

    Attributes:
        cache: the cache.
        width: length of a feature vector.
    """

    cache: FeatureCache
    width: int

    def __call__(self, media: Media) -> Data:
        """Features (O, width) and boxes (O, 6) of all objects, float32.

        Raises:
            ValueError: they were not computed, or the file is damaged.
        """
        rows = self.cache.read(media, (None, self.width + BOX))
        return rois_of(rows[:, :-BOX].clone(), rows[:, -BOX:].clone())
