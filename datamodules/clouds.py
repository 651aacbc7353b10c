"""Data module of point-cloud benchmarks."""

from datamodules.sources import SourceInstructions


class CloudInstructions(SourceInstructions):
    """Instruction data about point clouds from the annotation files of benchmarks."""
