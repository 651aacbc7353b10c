"""A reference to a cloud comes in, the features and boxes of its objects go out, as they were computed before."""

from dataclasses import dataclass

from torch_geometric.data import Data

from octavius.encoders.feature_cache import FeatureCache
from octavius.instruction.rois import RoiLoader, rois_of
from octavius.instruction.sample import Media

BOX = 6
"""Numbers of a box, centre and size, with which the row of an object ends."""


@dataclass(frozen=True)
class CachedRoiLoader(RoiLoader):
    """Reads what was computed of a medium.

    Attributes:
        cache: where it is.
        width: of the features of an object.
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
