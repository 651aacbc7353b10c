"""Names of image benchmarks and their folders come in, the loaders of image instruction data go out."""

from datamodules.miniature import files
from datamodules.sources import SourceInstructions


class ImageInstructions(SourceInstructions):
    """Image instruction data; its miniature is that of drawn pictures."""

    def write_miniature(self) -> None:
        """Writes the pictures and their annotations, which takes some 20 seconds."""
        files.build(self.root)
