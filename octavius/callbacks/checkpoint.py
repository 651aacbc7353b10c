"""Checkpoints and the run's configuration come in, files side by side go out."""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO


class CheckpointFiles(TorchCheckpointIO):
    """Writes the configuration beside each checkpoint, where `--ckpt` finds it.

    Attributes:
        configuration: the text that is written.
        last: the checkpoint that was saved last by this process; None before the first.
    """

    def __init__(self, configuration: str) -> None:
        """Keeps the text; nothing is written before there is a checkpoint."""
        self.configuration = configuration
        self.last: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Saves both files."""
        super().save_checkpoint(checkpoint, path, storage_options)
        Path(path).with_suffix(".yaml").write_text(self.configuration, encoding="utf-8")
        self.last = Path(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes both files."""
        super().remove_checkpoint(path)
        Path(path).with_suffix(".yaml").unlink(missing_ok=True)
