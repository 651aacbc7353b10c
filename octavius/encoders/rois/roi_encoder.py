"""Features and boxes of objects come in, the same or a blinded part of them go out, to be read by Object-As-Scene."""

from dataclasses import asdict
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Batch

from octavius.encoders.base import Encoder
from octavius.encoders.rois.object_as_scene import ObjectAsScene, ReaderSizes

Use: TypeAlias = Literal["all", "boxes", "features", "nothing"]

MANY = 32
"""Objects of a scene for which memory is planned."""


class RoiEncoder(Encoder):
    """What all encoders of RoIs share: the reader that is trained behind them, and what it may see.

    Attributes:
        width: numbers of a RoI's feature vector.
        num_tokens: how many vectors the reader gives the language model.
    """

    def __init__(self, width: int, reader: ReaderSizes | None = None, use: Use = "all") -> None:
        """Sets the sizes.

        Args:
            width: numbers of a RoI's feature vector.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of a RoI reaches the reader, in training and in use: `all`, its `boxes` alone, its
                `features` alone, or `nothing`, where each scene seems empty. All but the first are blind
                controls: what a model reaches with them it has not seen in the cloud.
        """
        super().__init__()
        self.width, self.use = width, use
        self.reader = reader or ReaderSizes()
        self.num_tokens = self.reader.queries

    def forward(self, media: Batch) -> Batch:
        """The RoIs with what `use` hides set to zero, or without any for `nothing`."""
        if self.use == "all":
            return media
        if self.use == "nothing":
            return kept(media, torch.zeros_like(media.batch, dtype=torch.bool))
        seen = media.clone()
        hidden = "boxes" if self.use == "features" else "x"
        seen[hidden] = torch.zeros_like(media[hidden])
        return seen

    def blank(self) -> Batch:
        """One scene of `MANY` objects. It has no batch vector: a number read from one would need its content."""
        return Batch(x=torch.zeros(MANY, self.width), boxes=torch.ones(MANY, 6), ptr=torch.tensor([0, MANY]))

    def projector(self, width: int, normalise: bool) -> ObjectAsScene:
        """A new reader for a language model of that width."""
        return ObjectAsScene(self.width, width, normalise=normalise, **asdict(self.reader))


def kept(rois: Batch, keep: Tensor) -> Batch:
    """The RoIs that are marked in `keep` (O,), of as many scenes as before."""
    batch = rois.batch[keep]
    sizes = batch.bincount(minlength=len(rois.ptr) - 1)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return Batch(x=rois.x[keep], boxes=rois.boxes[keep], batch=batch, ptr=ptr)
