"""Data module of point-cloud benchmarks."""

from datamodules.sources import SourceInstructions


class CloudInstructions(SourceInstructions):
    """Point-cloud instruction data."""
