"""Features of a backbone's stages come in, boxes at two levels go out: the neck and head of TR3D."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from octavius.encoders.detector.backbone import kaiming
from octavius.encoders.detector.predictions import Predictions, in_full, joined, level
from octavius.encoders.sparse.keys import find
from octavius.encoders.sparse.layers import (
    GenerativeConvTranspose,
    SparseActivation,
    SparseBatchNorm,
    SparseConv,
)
from octavius.encoders.sparse.tensor import SparseTensor, add, prune

PRIOR = 0.01
"""How likely each class is held at each location before anything is learnt."""


class TR3DHead(nn.Module):
    """Top-down through the stages; every level but the coarsest predicts, all of them with the same layers.

    Nothing is pruned, no level has a scale of its own, and there is no centre-ness. Source: TR3D (arXiv
    2302.02858), section 3, and its published code; parts are named as in MMDetection3D, the neck's too.

    Args:
        classes: C.
        widths: channels of each stage of the backbone.
        channels: of the outputs.
        voxel_size: edge of a finest voxel, metres.
        skip: how many of the finest stages are left out.
        grown_from: the finest level that gets voxels which the backbone does not have there; finer ones keep
            to the backbone's. The published 0 fills almost the whole room at the finest level, and that
            level is most of the work.
    """

    def __init__(
        self,
        classes: int,
        widths: Sequence[int],
        channels: int = 128,
        voxel_size: float = 0.01,
        skip: int = 1,
        grown_from: int = 0,
    ) -> None:
        super().__init__()
        if len(widths) - skip < 2:
            raise ValueError(
                f"TR3D needs two stages at least, found {len(widths)} of which {skip} are skipped; give the "
                "backbone more widths, or skip fewer"
            )
        self.voxel_size, self.skip, self.grown_from = voxel_size, skip, grown_from
        used = [*widths[skip:]]
        self.levels = len(used) - 1
        for number, width in enumerate(used):
            if number:
                self.add_module(f"up_block_{number}", _up_block(width, used[number - 1]))
            if number < self.levels:
                self.add_module(f"lateral_block_{number}", _block(width, width))
                self.add_module(f"out_block_{number}", _block(width, channels))
        kaiming(self)
        self.conv_reg = SparseConv(channels, 6, 1, bias=True)
        self.conv_cls = SparseConv(channels, classes, 1, bias=True)
        start_head(self.conv_cls, self.conv_reg)

    def forward(self, stages: list[SparseTensor]) -> Predictions:
        """What is said at all levels, from the features of the backbone's stages, the finest first."""
        used = stages[self.skip :]
        tensor, found = used[-1], []
        for number in range(self.levels - 1, -1, -1):
            tensor = self._up(number, tensor, used[number])
            tensor = self.get_submodule(f"lateral_block_{number}")(add(used[number], tensor))
            out = self.get_submodule(f"out_block_{number}")(tensor)
            found.append(self._predict(out, number))
        return joined(found[::-1])

    def _up(self, number: int, coarse: SparseTensor, beside: SparseTensor) -> SparseTensor:
        """A coarser level's features on the voxels of a finer one."""
        made = self.get_submodule(f"up_block_{number + 1}.0")(coarse)
        if number < self.grown_from:
            made = prune(made, find(beside.voxels.keys, made.voxels.keys) >= 0)
        for part in ("1", "2"):
            made = self.get_submodule(f"up_block_{number + 1}.{part}")(made)
        assert isinstance(made, SparseTensor)
        return made

    def _predict(self, tensor: SparseTensor, number: int) -> Predictions:
        """Boxes and classes at one level."""
        with torch.autocast(tensor.features.device.type, enabled=False):
            exact = tensor.with_features(in_full(tensor.features))
            numbers = self.conv_reg(exact).features
            logits = self.conv_cls(exact).features
        boxes = torch.cat([numbers[:, :3], numbers[:, 3:].exp()], dim=1)
        return level(tensor.voxels, self.voxel_size, number, boxes, logits)


def start_head(classes: SparseConv, *others: SparseConv) -> None:
    """Starts the last layers small: boxes alike everywhere, each class as likely as `PRIOR`."""
    for part in (classes, *others):
        nn.init.normal_(part.kernel, std=0.01)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    assert classes.bias is not None
    nn.init.constant_(classes.bias, -math.log((1 - PRIOR) / PRIOR))


def _block(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        SparseConv(width_in, width, 3), SparseBatchNorm(width), SparseActivation(functional.relu)
    )


def _up_block(width_in: int, width: int) -> nn.Sequential:
    up = GenerativeConvTranspose(width_in, width, kernel_size=3, stride=2)
    return nn.Sequential(up, SparseBatchNorm(width), SparseActivation(functional.relu))
