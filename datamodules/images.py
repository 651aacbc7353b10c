"""Data module of image benchmarks."""

from datamodules.miniature import files
from datamodules.sources import SourceInstructions


class ImageInstructions(SourceInstructions):
    """Image instruction data; the miniature consists of drawn pictures."""

    def write_miniature(self) -> None:
        """Writes the miniature's pictures and annotations unless they exist; takes about 20 seconds."""
        files.build(self.root)
