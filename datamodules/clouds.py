"""Data module of point-cloud benchmarks."""

from datamodules.source_instructions import SourceInstructions


class CloudInstructions(SourceInstructions):
    """Instruction data about point clouds from the annotation files of benchmarks."""
