"""A checkpoint as commands use it: read, verified and hashed once, then passed on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from octavius.checkpoint.saved_configuration import missing_config, saved_config
from octavius.checkpoint_format.configuration import Configuration
from octavius.checkpoint_format.weights import read_checkpoint
from octavius.configuration.text import parse_config


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint that has been read.

    Attributes:
        path: its path.
        content: what it holds; tensors are mapped into memory, not read.
        saved: its configuration; None if there is none, as earlier versions kept it only in a file next to the
            checkpoint.
    """

    path: Path
    content: dict[str, Any]
    saved: Configuration | None

    @property
    def configuration(self) -> Configuration:
        """Its configuration as text.

        Raises:
            ValueError: there is none.
        """
        if self.saved is None:
            raise ValueError(missing_config(self.path))
        return self.saved

    def model_section(self) -> Any:
        """The section `model` of its configuration.

        Raises:
            ValueError: there is no configuration, or it cannot be parsed.
        """
        return parse_config(self.configuration.text, self.configuration.source).get("model")

    def check(self, module: L.LightningModule) -> None:
        """Checks that it belongs to a model.

        Raises:
            ValueError: it belongs to another model.
        """
        try:
            module.on_load_checkpoint(self.content)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def load_into(self, module: L.LightningModule) -> None:
        """Copies its trained tensors into the model that it belongs to.

        Raises:
            ValueError: it belongs to another model.
        """
        self.check(module)
        module.load_state_dict(self.content["state_dict"], strict=False)


def open_checkpoint(path: Path) -> OpenCheckpoint:
    """Reads a checkpoint, and its configuration.

    Raises:
        ValueError: it cannot be read, or the configuration next to it is not text.
    """
    content = read_checkpoint(path)
    return OpenCheckpoint(path, content, saved_config(path, content))
