"""Layers on sparse tensors; parameters are named and shaped as in MinkowskiEngine (see the package)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from octavius.encoders.sparse.convolution import convolve, largest
from octavius.encoders.sparse.tensor import SparseTensor


class SparseConv(nn.Module):
    """A convolution: on the same voxels with a stride of 1, onto coarser ones with a larger stride.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: K, along each axis; with K = 1 and a stride of 1 it is a linear map per voxel.
        stride: factor by which voxels grow.
        bias: whether to add a learned bias.

    Attributes:
        kernel: (K^3, C_in, C_out), or (C_in, C_out) for the linear map.
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
        """Initializes uniformly in +-1 / sqrt(fan-in), like torch's convolutions."""
        _draw(self.in_channels * self.kernel_size**3, self.kernel, self.bias)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C_in) to (N_out, C_out)."""
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
    """A transposed convolution that generates finer voxels at every offset of the kernel, occupied or not.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: K, along each axis. With K equal to the stride each voxel is filled with its children;
            with a larger K several voxels share some, and their contributions are summed.
        stride: factor by which voxels shrink.
        bias: whether to add a learned bias.

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
        """Initializes uniformly in +-1 / sqrt(fan-in), with the fan-in of one finer voxel."""
        overlap = max(1.0, (self.kernel_size / self.stride) ** 3)
        _draw(self.in_channels * overlap, self.kernel, self.bias)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C_in) to (N_out, C_out), on voxels of 1 / stride the size."""
        _check_channels(self, tensor, self.in_channels)
        voxels, pairs = tensor.voxels.finer(self.kernel_size, self.stride)
        return SparseTensor(_plus(convolve(tensor.features, self.kernel, pairs), self.bias), voxels)

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )


class SparseMaxPool(nn.Module):
    """Max pooling onto coarser voxels.

    Args:
        kernel_size: K, along each axis; it must reach all voxels in a coarser one.
        stride: factor by which voxels grow.

    Raises:
        ValueError: the kernel would miss voxels.
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
        """Features (N, C) to (N_out, C)."""
        pairs = tensor.voxels.kernel_map(self.kernel_size, self.stride)
        return SparseTensor(largest(tensor.features, pairs), tensor.voxels.coarser(self.stride))

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class SparseBatchNorm(nn.Module):
    """Batch normalization over the voxels of all clouds; its parameters are under `bn`.

    In training with fewer than two voxels, which have no variance, it uses the running statistics and does
    not update them.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps, momentum)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C) to (N, C)."""
        if self.training and len(tensor) < 2:
            bn, features = self.bn, tensor.features
            fixed = nn.functional.batch_norm(
                features, bn.running_mean, bn.running_var, bn.weight, bn.bias, training=False, eps=bn.eps
            )
            return tensor.with_features(fixed)
        return tensor.with_features(self.bn(tensor.features))


class SparseInstanceNorm(nn.Module):
    """Normalizes each channel over the voxels of each cloud.

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
        """Features (N, C) to (N, C)."""
        _check_channels(self, tensor, self.weight.shape[1])
        clouds = tensor.features.split(tensor.voxels.counts)  # rows are sorted by cloud
        normal = torch.cat([_standardised(cloud, self.eps) for cloud in clouds])
        return tensor.with_features(normal * self.weight + self.bias)


class SparseActivation(nn.Module):
    """Applies a function to the features, such as `torch.nn.functional.elu`."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features (N, C) to (N, C)."""
        return tensor.with_features(self.function(tensor.features))


def _standardised(cloud: Tensor, eps: float) -> Tensor:
    """The features of one cloud with mean 0 and variance 1, computed in at least single precision."""
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
