"""Data module of image benchmarks."""

from datamodules.sources import SourceInstructions


class ImageInstructions(SourceInstructions):
    """Instruction data about images from the annotation files of benchmarks."""
