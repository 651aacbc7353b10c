"""Data module of image benchmarks."""

from datamodules.sources import SourceInstructions


class ImageInstructions(SourceInstructions):
    """Image instruction data."""
