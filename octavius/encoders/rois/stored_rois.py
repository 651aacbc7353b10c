"""Pass-through encoder for stored RoIs."""

from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.roi_encoder import RoiEncoder, Use
from octavius.limits import SIZE_RANGE
from octavius.media.rois import StoredRoiLoader


class StoredRois(RoiEncoder):
    """Encoder of the modality `rois`: features and boxes computed by others, from Scan2Inst's folders or pickles."""

    def __init__(self, width: int = 768, reader: ReaderSizes | None = None, use: Use = "all") -> None:
        """Sets the sizes.

        Args:
            width: length of a stored feature vector.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of a RoI reaches the reader: `all`, or for blind controls `boxes`, `features` or
                `nothing`.
        """
        SIZE_RANGE.check(width=width)
        super().__init__(width, reader, use)

    def loader(self) -> StoredRoiLoader:
        """Loads the feature file of an object or the folder of a scene, with the stored boxes, or an array."""
        return StoredRoiLoader(self.width)
