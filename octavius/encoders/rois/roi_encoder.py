"""Base class of RoI encoders, with blind controls, and with the Object-As-Scene reader as projector.

The reader is a resampler: learned queries that attend to the RoIs of a scene.
"""

from dataclasses import asdict
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Batch

from octavius.encoders.base import Encoder
from octavius.encoders.rois.object_as_scene import ObjectAsScene, ReaderSizes

Use: TypeAlias = Literal["all", "boxes", "features", "nothing"]

ASSUMED_ROIS = 32
"""RoIs per scene assumed when memory is estimated."""


class RoiEncoder(Encoder):
    """Base class of encoders whose RoI features were extracted beforehand.

    `forward` only removes what `use` excludes; the reader, which is trained, is created by `projector`.

    Attributes:
        width: length of a RoI's feature vector.
        num_tokens: number of tokens that the reader outputs per scene, one per query.
    """

    def __init__(self, width: int, reader: ReaderSizes | None = None, use: Use = "all") -> None:
        """Sets the sizes.

        Args:
            width: length of a RoI's feature vector.
            reader: sizes of the reader, which is trained; by default those of the published model.
            use: what of a RoI reaches the reader, in training and evaluation: `all`, its `boxes` only, its
                `features` only, or `nothing`, as if each scene were empty. All but `all` are blind controls:
                a score that is reached with them cannot be due to what is zeroed.
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
            return select_rois(media, torch.zeros_like(media.batch, dtype=torch.bool))
        seen = media.clone()
        zeroed = "boxes" if self.use == "features" else "x"
        seen[zeroed] = torch.zeros_like(media[zeroed])
        return seen

    def dummy_input(self) -> Batch:
        """Dummy input for memory estimates: one scene of `ASSUMED_ROIS` RoIs.

        It has no batch vector, as code that reads the values of one fails on the meta device.
        """
        count = ASSUMED_ROIS
        return Batch(
            x=torch.zeros(count, self.width), boxes=torch.ones(count, 6), ptr=torch.tensor([0, count])
        )

    def projector(self, width: int, normalise: bool) -> ObjectAsScene:
        """Creates the reader; for the arguments see `Encoder.projector`."""
        return ObjectAsScene(self.width, width, normalise=normalise, **asdict(self.reader))


def select_rois(rois: Batch, keep: Tensor) -> Batch:
    """The RoIs selected by the mask `keep` of O booleans, one per RoI; the number of scenes is unchanged."""
    batch = rois.batch[keep]
    sizes = batch.bincount(minlength=len(rois.ptr) - 1)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return Batch(x=rois.x[keep], boxes=rois.boxes[keep], batch=batch, ptr=ptr)
