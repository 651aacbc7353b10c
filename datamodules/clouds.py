"""Data module of point-cloud benchmarks."""

from datamodules.miniature.rooms import files
from datamodules.sources import SourceInstructions


class CloudInstructions(SourceInstructions):
    """Point-cloud instruction data; the miniature consists of synthetic scanned rooms."""

    def write_miniature(self) -> None:
        """Writes the miniature's rooms and their annotations unless they exist; takes minutes."""
        files.build(self.root)
