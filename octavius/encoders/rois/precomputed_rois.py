"""Pass-through encoder for precomputed RoIs, with optional noise in training."""

import torch
from torch_geometric.data import Batch

from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.roi_encoder import RoiEncoder, Use, select_rois
from octavius.limits import NON_NEGATIVE_NUMBER, PROBABILITY_BELOW_1, SIZE_RANGE
from octavius.media.rois import RoiArrayLoader


class PrecomputedRois(RoiEncoder):
    """Pass-through encoder for arrays (O, width + 6), such as symbolic features of a planned room's objects."""

    def __init__(
        self,
        width: int,
        noise: float = 0.0,
        drop: float = 0.0,
        reader: ReaderSizes | None = None,
        use: Use = "all",
    ) -> None:
        """Sets the sizes and the training noise.

        Args:
            width: length of a RoI's feature vector; the 6 numbers of its box (centre, size) follow.
            noise: standard deviation of the Gaussian noise added to features in training.
            drop: probability of dropping a RoI in training; a scene that would lose all RoIs keeps all.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of a RoI reaches the reader: `all`, or for blind controls `boxes`, `features` or
                `nothing`.
        """
        SIZE_RANGE.check(width=width)
        NON_NEGATIVE_NUMBER.check(noise=noise)
        PROBABILITY_BELOW_1.check(drop=drop)
        super().__init__(width, reader, use)
        self.noise, self.drop = noise, drop

    def loader(self) -> RoiArrayLoader:
        """Loads arrays (O, width + 6) with any number of objects, including 0."""
        return RoiArrayLoader(self.width)

    def forward(self, media: Batch) -> Batch:
        """The RoIs unchanged, or with noise and dropped RoIs in training."""
        rois = super().forward(media)
        if not self.training:
            return rois
        keep = torch.rand(len(rois.x), device=rois.x.device) >= self.drop
        left = rois.batch[keep].bincount(minlength=len(rois.ptr) - 1)
        rois = select_rois(rois, keep | (left == 0)[rois.batch])
        rois.x = rois.x + self.noise * torch.randn_like(rois.x)
        return rois
