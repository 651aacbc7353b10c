"""Neck and head of FCAF3D: generative up-sampling with pruning, and predictions at all levels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavius.encoders.detector.predictions import Predictions, in_full, joined, level
from octavius.encoders.detector.tr3d import init_head
from octavius.encoders.sparse.interpolation import trilinear
from octavius.encoders.sparse.layers import (
    GenerativeConvTranspose,
    SparseActivation,
    SparseBatchNorm,
    SparseConv,
)
from octavius.encoders.sparse.tensor import SparseTensor, add, prune, topk_mask


class Scale(nn.Module):
    """One learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, values: Tensor) -> Tensor:
        """The values times the factor."""
        return values * self.scale


class FCAF3DHead(nn.Module):
    """Runs top-down through the stages; each level generates voxels, keeps the most promising, and predicts.

    Up-sampling generates all eight children of a voxel, so that there are locations inside objects, where no
    point lies. The coarser level's class scores decide which of them are kept. All levels share their
    prediction layers but for a scale of the box sizes.

    Source: FCAF3D (arXiv 2112.00322), section 3, and its published code; submodules are named as in
    MMDetection3D.

    Args:
        classes: number C of classes.
        widths: channels of each stage of the backbone.
        channels: channels of the features from which all levels predict.
        voxel_size: edge of the finest voxels in metres.
        keep: largest number of voxels per scene that a level keeps.
    """

    def __init__(
        self,
        classes: int,
        widths: Sequence[int],
        channels: int = 128,
        voxel_size: float = 0.01,
        keep: int = 100_000,
    ) -> None:
        super().__init__()
        if keep < 1:
            raise ValueError(f"expected to keep at least 1 voxel of each scene, found {keep}")
        self.voxel_size, self.keep = voxel_size, keep
        self.levels = len(widths)
        for number, width in enumerate(widths):
            if number:
                self.add_module(f"up_block_{number}", _up_block(width, widths[number - 1]))
            self.add_module(f"out_block_{number}", nn.Sequential(*_convolution(width, channels)))
        self.conv_center = SparseConv(channels, 1, 1)
        self.conv_reg = SparseConv(channels, 6, 1)
        self.conv_cls = SparseConv(channels, classes, 1, bias=True)
        self.scales = nn.ModuleList(Scale() for _ in widths)
        init_head(self.conv_cls, self.conv_reg, self.conv_center)

    def forward(self, stages: list[SparseTensor]) -> Predictions:
        """Predictions of all levels, from the outputs of the backbone's stages, the finest first."""
        tensor, found, best_logits = stages[-1], list[Predictions](), None
        for number in range(self.levels - 1, -1, -1):
            if best_logits is not None:
                upsampled = self.get_submodule(f"up_block_{number + 1}")(tensor)
                tensor = self.pruned(add(stages[number], upsampled), best_logits)
            out = self.get_submodule(f"out_block_{number}")(tensor)
            found.append(self._predict(out, number))
            best_logits = SparseTensor(found[-1].logits.detach().amax(1, keepdim=True), out.voxels)
        return joined(found[::-1])

    def pruned(self, tensor: SparseTensor, best_logits: SparseTensor) -> SparseTensor:
        """Keeps the voxels of each scene where the highest class logit (N, 1) of the coarser level is largest.

        Logits are interpolated. As in the published code, a neighbour missing at the coarser level counts as
        a logit of 0, which is more than most.
        """
        if max(tensor.voxels.counts) <= self.keep:
            return tensor
        coords = tensor.voxels.coords
        scores = trilinear(best_logits, coords[:, 1:].to(best_logits.features.dtype), coords[:, 0])
        return prune(tensor, topk_mask(scores[:, 0], tensor.voxels, self.keep))

    def _predict(self, tensor: SparseTensor, number: int) -> Predictions:
        """Boxes, class logits and centre-ness at one level."""
        # In half precision boxes would be off by centimetres.
        with torch.autocast(tensor.features.device.type, enabled=False):
            exact = tensor.with_features(in_full(tensor.features))
            faces = self.scales[number](self.conv_reg(exact).features).exp()
            logits = self.conv_cls(exact).features
            centreness = self.conv_center(exact).features[:, 0]
        boxes = face_boxes(faces)
        return level(tensor.voxels, self.voxel_size, number, boxes, logits, centreness)


def face_boxes(faces: Tensor) -> Tensor:
    """Boxes (N, 6) relative to a location, from the distances (N, 6) to the faces: -x, +x, -y, +y, -z, +z."""
    below, above = faces[:, ::2], faces[:, 1::2]
    return torch.cat([(above - below) / 2, above + below], dim=1)


def _convolution(width_in: int, width: int) -> list[nn.Module]:
    return [SparseConv(width_in, width, 3), SparseBatchNorm(width), SparseActivation(functional.elu)]


def _up_block(width_in: int, width: int) -> nn.Sequential:
    up = GenerativeConvTranspose(width_in, width, kernel_size=2, stride=2)
    grown = [up, SparseBatchNorm(width), SparseActivation(functional.elu)]
    return nn.Sequential(*grown, *_convolution(width, width))
