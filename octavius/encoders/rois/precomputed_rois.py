"""Features and boxes of objects that are in memory already come in, the same go out, noisy while training."""

import torch
from torch_geometric.data import Batch

from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.roi_encoder import RoiEncoder, Use, kept
from octavius.instruction.rois import RoiArrayLoader
from octavius.limits import NOT_NEGATIVE, PROBABILITY, SIZE


class PrecomputedRois(RoiEncoder):
    """An encoder without an eye: takes arrays (O, width + 6), such as the symbols of a planned room's things."""

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
            width: numbers of a RoI's feature vector; the 6 of its box (centre, size) stand behind them.
            noise: standard deviation of the noise added to every number of a feature while training.
            drop: share of RoIs that are left out while training; a medium that would lose all keeps all.
            reader: sizes of the trained reader; those of the published model by default.
            use: what of a RoI reaches the reader; all but `all` are blind controls.
        """
        SIZE.check(width=width)
        NOT_NEGATIVE.check(noise=noise)
        PROBABILITY.check(drop=drop)
        super().__init__(width, reader, use)
        self.noise, self.drop = noise, drop

    def loader(self) -> RoiArrayLoader:
        """Arrays (O, width + 6) of any number of objects, none too."""
        return RoiArrayLoader(self.width)

    def forward(self, media: Batch) -> Batch:
        """The RoIs as they are, or with noise and without some of them while training."""
        rois = super().forward(media)
        if not self.training:
            return rois
        keep = torch.rand(len(rois.x), device=rois.x.device) >= self.drop
        left = rois.batch[keep].bincount(minlength=len(rois.ptr) - 1)
        rois = kept(rois, keep | (left == 0)[rois.batch])
        rois.x = rois.x + self.noise * torch.randn_like(rois.x)
        return rois
