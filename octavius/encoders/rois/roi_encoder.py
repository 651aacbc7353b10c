"""Base class of RoI encoders, with the blind controls and the Object-As-Scene reader as projector."""

from dataclasses import asdict
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Batch

from octavius.encoders.base import Encoder
from octavius.encoders.rois.object_as_scene import ObjectAsScene, ReaderSizes

Use: TypeAlias = Literal["all", "boxes", "features", "nothing"]

MANY = 32
"""Objects per scene assumed when memory is estimated."""


class RoiEncoder(Encoder):
    """Base class of RoI encoders.

    Attributes:
        width: length of a RoI's feature vector.
        num_tokens: number of vectors that the reader outputs per scene.
    """

    def __init__(self, width: int, reader: ReaderSizes | None = None, use: Use = "all") -> None:
        """Sets the sizes.

        Args:
            width: length of a RoI's feature vector.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of a RoI reaches the reader, in training and evaluation: `all`, its `boxes` only, its
                `features` only, or `nothing`, as if each scene were empty. All but `all` are blind controls:
                what a model scores with them does not come from the hidden part.
        """
        super().__init__()
        self.width, self.use = width, use
        self.reader = reader or ReaderSizes()
        self.num_tokens = self.reader.queries

    def forward(self, media: Batch) -> Batch:
        """The RoIs with what `use` hides set to zero, or without any RoI for `nothing`."""
        if self.use == "all":
            return media
        if self.use == "nothing":
            return kept(media, torch.zeros_like(media.batch, dtype=torch.bool))
        seen = media.clone()
        hidden = "boxes" if self.use == "features" else "x"
        seen[hidden] = torch.zeros_like(media[hidden])
        return seen

    def blank(self) -> Batch:
        """One scene of `MANY` objects, without a batch vector: on the meta device its content could not be read."""
        return Batch(x=torch.zeros(MANY, self.width), boxes=torch.ones(MANY, 6), ptr=torch.tensor([0, MANY]))

    def projector(self, width: int, normalise: bool) -> ObjectAsScene:
        """A new reader for a language model of that hidden size."""
        return ObjectAsScene(self.width, width, normalise=normalise, **asdict(self.reader))


def kept(rois: Batch, keep: Tensor) -> Batch:
    """The RoIs selected by the mask `keep` (O,); the number of scenes is unchanged."""
    batch = rois.batch[keep]
    sizes = batch.bincount(minlength=len(rois.ptr) - 1)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return Batch(x=rois.x[keep], boxes=rois.boxes[keep], batch=batch, ptr=ptr)
