"""Data modules of the miniature, which write its files to the root unless they exist, and then read them."""

from datamodules.clouds import CloudInstructions
from datamodules.images import ImageInstructions
from datamodules.miniature import files
from datamodules.miniature.rooms import files as rooms


class MiniatureImages(ImageInstructions):
    """Drawn pictures with annotations in the layouts of COCO, VOC, ScienceQA and CelebA."""

    def prepare_data(self) -> None:
        """Writes them unless they exist, in about 20 seconds; Lightning calls it in one process."""
        files.build(self.root)


class MiniatureClouds(CloudInstructions):
    """Synthetic scanned rooms with annotations in the layouts of ScanNet, ScanRefer, ScanQA, Nr3D and ShapeNet."""

    def prepare_data(self) -> None:
        """Writes them unless they exist, in minutes; Lightning calls it in one process."""
        rooms.build(self.root)
