"""Data module of the miniature's rooms with boxes, to train its detector."""

from datamodules.miniature.rooms.files import build
from datamodules.pretraining.scene_boxes import SceneBoxes


class MiniatureSceneBoxes(SceneBoxes):
    """The miniature's rooms, which are written to the root if they do not exist."""

    def prepare_data(self) -> None:
        """Writes them unless they exist, in minutes; Lightning calls it in one process."""
        build(self.root)
