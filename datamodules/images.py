"""Data module of image benchmarks."""

from datamodules.source_instructions import SourceInstructions


class ImageInstructions(SourceInstructions):
    """Instruction data about images from the annotation files of benchmarks."""
