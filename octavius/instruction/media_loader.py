"""Base class of media loaders, which can be imported without PyTorch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from octavius.instruction.sample import Media


class MediaLoader(ABC):
    """Loads media items and collates them into a batch; both run in the DataLoader workers where there are any."""

    @abstractmethod
    def __call__(self, media: Media) -> Any:
        """Loads one media item: a tensor, or `torch_geometric.data.Data` if sizes differ."""

    def collate(self, items: Sequence[Any]) -> Any:
        """Batches loaded items; by default stacks M tensors of equal shape to (M, ...)."""
        import torch

        return torch.stack(list(items))
