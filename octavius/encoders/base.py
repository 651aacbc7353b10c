"""What every encoder offers: media of one modality in, features and the trained part that reads them out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import distributed, nn

from octavius.encoders.projector import LinearProjector
from octavius.instruction.media import Loader
from octavius.instruction.sample import Media


class UnreadableMediaError(ValueError):
    """Some media could not be read when their features were computed; those of all others are there."""


class Encoder(nn.Module, ABC):
    """Media of one modality in, features of `width` numbers out; frozen in instruction tuning.

    Attributes:
        width: size of one feature vector.
        num_tokens: N, how many vectors a medium gives the language model, and so its slots in the prompt.
    """

    width: int
    num_tokens: int

    @abstractmethod
    def loader(self) -> Loader:
        """What turns one file or array into this encoder's input, in the data workers."""

    @abstractmethod
    def forward(self, media: Any) -> Any:
        """Features (M, N, width), or whatever else `projector` takes."""

    @abstractmethod
    def blank(self) -> Any:
        """One medium without content, as `forward` takes it: for its shape, when memory and time are planned."""

    def projector(self, width: int, normalise: bool) -> nn.Module:
        """A new trained part that turns the features into vectors (M, N, width) for the language model.

        Args:
            width: of the language model.
            normalise: bring each feature vector to mean 0 and variance 1 first.
        """
        return LinearProjector(self.width, width, normalise)

    def prepare(self, media: Iterable[Media], device: torch.device | str) -> None:
        """Does the work that is done once for each medium and kept on disk; nothing for most encoders.

        Args:
            media: all that will be loaded; repeated ones are alike.
            device: where to compute.

        Raises:
            UnreadableMediaError: some media cannot be read; told at the end, when all others are done.
        """


def silent() -> bool:
    """Whether another process shows the progress."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0
