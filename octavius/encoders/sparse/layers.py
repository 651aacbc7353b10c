"""A sparse tensor comes in, a sparse tensor goes out: the layers that detectors are built of.

Parameters are named and shaped as MinkowskiEngine's, see the package's own words.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from octavius.encoders.sparse.convolution import convolve, largest
from octavius.encoders.sparse.tensor import SparseTensor


class SparseConv(nn.Module):
    """A convolution: on the same voxels with a stride of 1, on coarser ones with more.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: K, along each axis; a size of 1 and a stride of 1 make a linear map of each voxel.
        stride: by how much voxels grow.
        bias: whether something is added to each channel.

    Attributes:
        kernel: (K^3, C_in, C_out), or (C_in, C_out) of the linear map.
        bias: (1, C_out), or None.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = kernel_size, stride
        linear = kernel_size == stride == 1
        offsets = () if linear else (kernel_size**3,)
        self.kernel = nn.Parameter(torch.empty(*offsets, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all numbers evenly within 1 / sqrt(fan-in), as torch's convolutions."""
        _draw(self.in_channels * self.kernel_size**3, self.kernel, self.bias)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C_in) become features (N_out, C_out)."""
        _check_channels(self, tensor, self.in_channels)
        if self.kernel.dim() == 2:
            return tensor.with_features(_plus(tensor.features @ self.kernel, self.bias))
        pairs = tensor.voxels.kernel_map(self.kernel_size, self.stride)
        features = convolve(tensor.features, self.kernel, pairs)
        return SparseTensor(_plus(features, self.bias), tensor.voxels.coarser(self.stride))

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )


class GenerativeConvTranspose(nn.Module):
    """A transposed convolution that makes finer voxels at every offset of the kernel, occupied before or not.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: K, along each axis. A kernel as large as the stride fills each voxel with its children; a
            larger one makes some that several voxels share, whose parts are summed.
        stride: by how much voxels shrink.
        bias: whether something is added to each channel.

    Attributes:
        kernel: (K^3, C_in, C_out).
        bias: (1, C_out), or None.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 2, bias: bool = False
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = kernel_size, stride
        self.kernel = nn.Parameter(torch.empty(kernel_size**3, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all numbers evenly within 1 / sqrt(fan-in), where the fan-in is that of one finer voxel."""
        overlap = max(1.0, (self.kernel_size / self.stride) ** 3)
        _draw(self.in_channels * overlap, self.kernel, self.bias)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C_in) become features (N_out, C_out) on voxels of 1 / stride the size."""
        _check_channels(self, tensor, self.in_channels)
        voxels, pairs = tensor.voxels.finer(self.kernel_size, self.stride)
        return SparseTensor(_plus(convolve(tensor.features, self.kernel, pairs), self.bias), voxels)

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )


class SparseMaxPool(nn.Module):
    """The largest value of each channel among the voxels under a kernel, on coarser voxels.

    Args:
        kernel_size: K, along each axis; it must reach all voxels in a coarser one.
        stride: by how much voxels grow.
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        reach = kernel_size // 2 if kernel_size % 2 else kernel_size - 1
        if reach < stride - 1:
            raise ValueError(
                f"a pooling kernel of {kernel_size} with a stride of {stride} leaves voxels out; choose an "
                f"even kernel of at least {stride}, or an odd one of at least {2 * stride - 1}"
            )
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C) become features (N_out, C)."""
        pairs = tensor.voxels.kernel_map(self.kernel_size, self.stride)
        return SparseTensor(largest(tensor.features, pairs), tensor.voxels.coarser(self.stride))

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class SparseBatchNorm(nn.Module):
    """Batch normalisation over all voxels of all clouds; its parameters lie under `bn`.

    While training with fewer than two voxels, of which no variance can be told, it normalises with what it has
    gathered so far, and gathers nothing.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps, momentum)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C) become features (N, C)."""
        if self.training and len(tensor) < 2:
            bn, features = self.bn, tensor.features
            fixed = nn.functional.batch_norm(
                features, bn.running_mean, bn.running_var, bn.weight, bn.bias, training=False, eps=bn.eps
            )
            return tensor.with_features(fixed)
        return tensor.with_features(self.bn(tensor.features))


class SparseInstanceNorm(nn.Module):
    """Normalises each channel over the voxels of each cloud alone.

    Attributes:
        weight: (1, C).
        bias: (1, C).
    """

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, channels))
        self.bias = nn.Parameter(torch.zeros(1, channels))

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C) become features (N, C)."""
        _check_channels(self, tensor, self.weight.shape[1])
        clouds = tensor.features.split(tensor.voxels.counts)  # rows are sorted by cloud
        normal = torch.cat([_standardised(cloud, self.eps) for cloud in clouds])
        return tensor.with_features(normal * self.weight + self.bias)


class SparseActivation(nn.Module):
    """A function of the features alone, such as `torch.nn.functional.elu`."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C) become features (N, C)."""
        return tensor.with_features(self.function(tensor.features))


def _standardised(cloud: Tensor, eps: float) -> Tensor:
    """The features of one cloud with mean 0 and variance 1, computed in single precision at least."""
    if not len(cloud):
        return cloud
    exact = cloud.to(torch.promote_types(cloud.dtype, torch.float32))
    variance, mean = torch.var_mean(exact, dim=0, correction=0)
    return ((exact - mean) * (variance + eps).rsqrt()).to(cloud.dtype)


def _plus(features: Tensor, bias: Tensor | None) -> Tensor:
    return features if bias is None else features + bias.to(features.dtype)


def _draw(fan_in: float, *parameters: Tensor | None) -> None:
    bound = 1 / math.sqrt(fan_in)
    for parameter in parameters:
        if parameter is not None:
            nn.init.uniform_(parameter, -bound, bound)


def _check_channels(layer: nn.Module, tensor: SparseTensor, channels: int) -> None:
    if tensor.features.shape[1] != channels:
        raise ValueError(
            f"{type(layer).__name__} was made for {channels} channels, found {tensor.features.shape[1]}; make "
            "it as wide as the layer before it"
        )
