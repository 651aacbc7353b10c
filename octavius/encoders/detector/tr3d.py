"""Neck and head of TR3D: generative up-sampling without pruning, and predictions at two levels."""

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
"""Initial probability of each class at each location."""


class TR3DHead(nn.Module):
    """Runs top-down through the stages; all levels but the coarsest predict, with shared layers.

    Unlike FCAF3D, it has no pruning, no scale per level and no centre-ness.

    Source: TR3D (arXiv 2302.02858), section 3, and its published code; submodules are named as in
    MMDetection3D.

    Args:
        classes: number C of classes.
        widths: channels of each stage of the backbone.
        channels: channels of the features from which all levels predict.
        voxel_size: edge of the finest voxels in metres.
        skip: number of the finest stages that do not predict.
        grown_from: finest level at which voxels are generated that the backbone does not have; finer levels
            have the backbone's voxels only. The published 0 fills almost the whole room at the finest level,
            which makes up most of the computation.
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
        init_head(self.conv_cls, self.conv_reg)

    def forward(self, stages: list[SparseTensor]) -> Predictions:
        """Predictions of all levels, from the outputs of the backbone's stages, the finest first."""
        used = stages[self.skip :]
        tensor, found = used[-1], []
        for number in range(self.levels - 1, -1, -1):
            tensor = self._up(number, tensor, used[number])
            tensor = self.get_submodule(f"lateral_block_{number}")(add(used[number], tensor))
            out = self.get_submodule(f"out_block_{number}")(tensor)
            found.append(self._predict(out, number))
        return joined(found[::-1])

    def _up(self, number: int, coarse: SparseTensor, backbone: SparseTensor) -> SparseTensor:
        """Up-samples a coarser level's features; below `grown_from` only to voxels that the backbone has."""
        upsampled = self.get_submodule(f"up_block_{number + 1}.0")(coarse)
        if number < self.grown_from:
            upsampled = prune(upsampled, find(backbone.voxels.keys, upsampled.voxels.keys) >= 0)
        for part in ("1", "2"):
            upsampled = self.get_submodule(f"up_block_{number + 1}.{part}")(upsampled)
        assert isinstance(upsampled, SparseTensor)
        return upsampled

    def _predict(self, tensor: SparseTensor, number: int) -> Predictions:
        """Boxes and class logits at one level."""
        # In half precision boxes would be off by centimetres.
        with torch.autocast(tensor.features.device.type, enabled=False):
            exact = tensor.with_features(in_full(tensor.features))
            numbers = self.conv_reg(exact).features
            logits = self.conv_cls(exact).features
        boxes = torch.cat([numbers[:, :3], numbers[:, 3:].exp()], dim=1)
        return level(tensor.voxels, self.voxel_size, number, boxes, logits)


def init_head(classes: SparseConv, *others: SparseConv) -> None:
    """Initializes the prediction layers: nearly constant boxes, and probability `PRIOR` for each class."""
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
