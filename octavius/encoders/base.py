"""Base class of encoders: a frozen feature extractor for one modality, with its loader and its projector."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import distributed, nn

from octavius.encoders.projector import LinearProjector
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media


class UnreadableMediaError(ValueError):
    """Some media could not be read while features were computed; the features of all others are stored."""


class Encoder(nn.Module, ABC):
    """Maps media of one modality to feature vectors; frozen in instruction tuning.

    Attributes:
        width: length of one feature vector.
        num_tokens: number N of vectors that a medium has in the language model, hence of its slots in the
            prompt.
    """

    width: int
    num_tokens: int

    tags: ClassVar[tuple[str, str] | None] = None
    """Text before and after the slots of a medium, where the prompt's template has none for the modality."""

    @abstractmethod
    def loader(self) -> MediaLoader:
        """The loader that turns a file or array into this encoder's input, in the DataLoader workers."""

    @abstractmethod
    def forward(self, media: Any) -> Any:
        """Features (M, N, width), or whatever else `projector` takes."""

    @abstractmethod
    def dummy_input(self) -> Any:
        """An input of `forward` for one media item, used for its shape when memory and time are estimated."""

    def projector(self, width: int, normalise: bool) -> nn.Module:
        """Creates the trained module that maps features to vectors (M, N, width) for the language model.

        Args:
            width: hidden size of the language model.
            normalise: normalize each feature vector to mean 0 and variance 1 first.
        """
        return LinearProjector(self.width, width, normalise)

    def prepare(self, media: Iterable[Media], device: torch.device | str) -> None:
        """Computes what is cached on disk once per medium; does nothing by default.

        Args:
            media: all media that will be loaded; may contain duplicates.
            device: device to compute on.

        Raises:
            UnreadableMediaError: some media cannot be read; raised after all others are done.
        """


def silent() -> bool:
    """Whether this is not the process that shows progress (rank 0)."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0


def tags_of(encoders: Mapping[str, Encoder]) -> dict[str, tuple[str, str]]:
    """The tags of those modalities whose encoder has some."""
    return {name: encoder.tags for name, encoder in encoders.items() if encoder.tags is not None}
