"""Sparse residual backbone of the detectors (`MinkResNet`).

Submodules are named as in MMDetection3D, so that published weights load by name.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from octavius.encoders.sparse.layers import (
    SparseActivation,
    SparseBatchNorm,
    SparseConv,
    SparseInstanceNorm,
    SparseMaxPool,
)
from octavius.encoders.sparse.tensor import SparseTensor, add

Norm: TypeAlias = Literal["instance", "batch"]


class BasicBlock(nn.Module):
    """Residual block of two convolutions, with a projected shortcut if the shape changes.

    Args:
        width_in: input channels.
        width: output channels.
        stride: factor by which voxels grow.
    """

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = SparseConv(width_in, width, 3, stride), SparseBatchNorm(width)
        self.conv2, self.norm2 = SparseConv(width, width, 3), SparseBatchNorm(width)
        self.downsample = (
            nn.Sequential(SparseConv(width_in, width, 1, stride), SparseBatchNorm(width))
            if stride != 1 or width_in != width
            else None
        )

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, width_in) to (N_out, width)."""
        inner = self.norm1(self.conv1(tensor))
        inner = inner.with_features(functional.relu(inner.features))
        inner = self.norm2(self.conv2(inner))
        total = add(inner, tensor if self.downsample is None else self.downsample(tensor))
        return total.with_features(functional.relu(total.features))


class MinkResNet(nn.Module):
    """A stem with a stride of 2 (4 with pooling), followed by stages with a stride of 2 each.

    Source: FCAF3D (arXiv 2112.00322), section 3.2, and its published code; defaults are those of a 34-layer
    ResNet.

    Args:
        channels: input features per voxel.
        widths: channels of each stage.
        blocks: number of residual blocks of each stage.
        stem: channels of the stem.
        pool: whether the stem pools.
        norm: normalization in the stem: over the voxels of each cloud (`instance`, FCAF3D) or of the batch
            (`batch`, TR3D).

    Attributes:
        strides: voxel edge after each stage, in finest voxels.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (3, 4, 6, 3),
        stem: int = 64,
        pool: bool = True,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths or min(*widths, *blocks, stem) < 1:
            raise ValueError(
                f"expected a width and a number of blocks of each stage, all above 0, found widths {[*widths]} "
                f"and blocks {[*blocks]}; give as many of the one as of the other"
            )
        self.conv1 = SparseConv(channels, stem, 3, stride=2)
        self.norm1 = SparseInstanceNorm(stem) if norm == "instance" else SparseBatchNorm(stem)
        self.relu = SparseActivation(functional.relu)
        self.maxpool = SparseMaxPool(2, 2) if pool else nn.Identity()
        first = 4 if pool else 2
        self.strides = tuple(first * 2**stage for stage in range(1, len(widths) + 1))
        self.stages = len(widths)
        before = stem
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            rest = [BasicBlock(width, width) for _ in range(count - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(BasicBlock(before, width, stride=2), *rest))
            before = width
        kaiming(self)

    def forward(self, tensor: SparseTensor) -> list[SparseTensor]:
        """The output of each stage, the finest first."""
        tensor = self.maxpool(self.relu(self.norm1(self.conv1(tensor))))
        found = []
        for stage in range(1, self.stages + 1):
            tensor = self.get_submodule(f"layer{stage}")(tensor)
            found.append(tensor)
        return found


def kaiming(module: nn.Module) -> None:
    """Kaiming initialization for ReLU (fan-out): kernels are normal with variance 2 / (K^3 * C_out)."""
    for part in module.modules():
        if isinstance(part, SparseConv) and part.kernel.dim() == 3:
            with torch.no_grad():
                part.kernel.normal_(0, math.sqrt(2 / (part.kernel.shape[0] * part.out_channels)))
