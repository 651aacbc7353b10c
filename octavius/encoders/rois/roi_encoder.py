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
        num_tokens: number of vectors that the reader outputs per scene, one per query.
    """

    def __init__(self, width: int, reader: ReaderSizes | None = None, use: Use = "all") -> None:
        """Sets the sizes.

        Args:
            width: length of a RoI's feature vector.
            reader: sizes of the reader, which is trained; by default those of the published model.
            use: what of a RoI reaches the reader, in training and evaluation: `all`, its `boxes` only, its
                `features` only, or `nothing`, as if each scene were empty. All but `all` are blind controls:
                a score that is reached with them cannot be due to what is hidden.
        """
        super().__init__()
        self.width, self.use = width, use
        self.reader = reader or ReaderSizes()
        self.num_tokens = self.reader.queries

    def forward(self, media: Batch) -> Batch:
        """The RoIs with the inputs that `use` excludes set to zero, or without any RoI for `nothing`."""
        if self.use == "all":
            return media
        if self.use == "nothing":
            return kept(media, torch.zeros_like(media.batch, dtype=torch.bool))
        seen = media.clone()
        zeroed = "boxes" if self.use == "features" else "x"
        seen[zeroed] = torch.zeros_like(media[zeroed])
        return seen

    def blank(self) -> Batch:
        """Dummy input for memory estimates: one scene of `MANY` RoIs.

        It has no batch vector, as code that reads the values of one fails on the meta device.
        """
        return Batch(x=torch.zeros(MANY, self.width), boxes=torch.ones(MANY, 6), ptr=torch.tensor([0, MANY]))

    def projector(self, width: int, normalise: bool) -> ObjectAsScene:
        """A new reader for a language model of hidden size `width`."""
        return ObjectAsScene(self.width, width, normalise=normalise, **asdict(self.reader))


def kept(rois: Batch, keep: Tensor) -> Batch:
    """The RoIs selected by the mask `keep` of O booleans, one per RoI; the number of scenes is unchanged."""
    batch = rois.batch[keep]
    sizes = batch.bincount(minlength=len(rois.ptr) - 1)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return Batch(x=rois.x[keep], boxes=rois.boxes[keep], batch=batch, ptr=ptr)
