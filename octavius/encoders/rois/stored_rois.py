"""Stored features of a scene's objects come in, the same go out, to be read by Object-As-Scene."""

from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.roi_encoder import RoiEncoder, Use
from octavius.instruction.rois import StoredRoiLoader
from octavius.limits import SIZE


class StoredRois(RoiEncoder):
    """The modality `rois`: features and boxes that others computed, of Scan2Inst's folders or pickles."""

    def __init__(self, width: int = 768, reader: ReaderSizes | None = None, use: Use = "all") -> None:
        """Sets the sizes.

        Args:
            width: numbers of a stored feature vector.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of a RoI reaches the reader; all but `all` are blind controls.
        """
        SIZE.check(width=width)
        super().__init__(width, reader, use)

    def loader(self) -> StoredRoiLoader:
        """Reads a feature file, or all of a scene's folder, with the boxes stored beside; takes arrays too."""
        return StoredRoiLoader(self.width)
