"""Names of point-cloud benchmarks and their folders come in, the loaders of their instruction data go out."""

from datamodules.miniature.rooms import files
from datamodules.sources import SourceInstructions


class CloudInstructions(SourceInstructions):
    """Point-cloud instruction data; its miniature is that of scanned rooms."""

    def write_miniature(self) -> None:
        """Writes the rooms and what is told of them, which takes some minutes."""
        files.build(self.root)
