"""Occupied voxels, with their coarser and finer versions and kernel maps."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from octavius.encoders.sparse.keys import AXIS, find, kernel_shifts, pack, unpack


@dataclass(frozen=True)
class KernelMap:
    """The pairs of input and output rows for each offset of a kernel.

    For one offset every row occurs at most once on either side, and both sides ascend. Sums over the pairs,
    offset by offset, are therefore deterministic, on GPUs as well.

    Attributes:
        sources: (P,) input rows, ordered by offset.
        targets: (P,) output rows of the same pairs.
        counts: K^3 numbers of pairs per offset.
        size: number of output rows.
    """

    sources: Tensor
    targets: Tensor
    counts: tuple[int, ...]
    size: int


class Voxels:
    """The occupied voxels of a batch of clouds at one stride, sorted by cloud, x, y, z.

    Args:
        keys: (N,) sorted, distinct keys.
        stride: edge of a voxel in finest voxels; coordinates are multiples of it.
        batch_size: number B of clouds, some of which may be empty.

    Attributes:
        keys: as given.
        stride: as given.
        batch_size: as given.
    """

    def __init__(self, keys: Tensor, stride: int, batch_size: int) -> None:
        self.keys, self.stride, self.batch_size = keys, stride, batch_size
        # Only coarser voxels are cached, never finer ones: without reference cycles, a finished pass is freed
        # at once.
        self._coarser: dict[int, Voxels] = {}
        self._maps: dict[tuple[int, int], KernelMap] = {}

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def coords(self) -> Tensor:
        """Cloud and lower corner (x, y, z) of each voxel, (N, 4), in finest voxels."""
        return unpack(self.keys)

    @cached_property
    def batch(self) -> Tensor:
        """The cloud of each voxel (N,), a batch vector as in torch-geometric."""
        return self.keys >> (3 * AXIS)

    @cached_property
    def counts(self) -> list[int]:
        """Number of voxels of each of the B clouds."""
        return self.batch.bincount(minlength=self.batch_size).tolist()

    def coarser(self, factor: int) -> "Voxels":
        """The voxels of `factor` times the stride that contain these; cached, so the same object each time."""
        if factor < 1:
            raise ValueError(f"expected a stride of 1 or more, found {factor}")
        if factor == 1:
            return self
        if factor not in self._coarser:
            stride = self.stride * factor
            cloud, corner = self.coords[:, :1], self.coords[:, 1:]
            below = corner.div(stride, rounding_mode="floor") * stride
            keys = pack(torch.cat([cloud, below], dim=1)).unique()
            self._coarser[factor] = Voxels(keys, stride, self.batch_size)
        return self._coarser[factor]

    def kernel_map(self, kernel_size: int, factor: int = 1) -> KernelMap:
        """The neighbours, among these voxels, of each voxel of `coarser(factor)`; cached."""
        asked = kernel_size, factor
        if asked not in self._maps:
            centres = self.coarser(factor).keys
            table = find(
                self.keys, centres + kernel_shifts(kernel_size, self.stride, centres.device)[:, None]
            )
            there = table >= 0
            offsets, targets = there.nonzero(as_tuple=True)
            counts = tuple(there.sum(1).tolist())
            self._maps[asked] = KernelMap(table[offsets, targets], targets, counts, len(centres))
        return self._maps[asked]

    def finer(self, kernel_size: int, factor: int) -> tuple["Voxels", KernelMap]:
        """The voxels at all offsets of a kernel from these at 1 / `factor` of the stride, with their kernel map."""
        if factor < 1 or self.stride % factor:
            raise ValueError(
                f"voxels of stride {self.stride} cannot be made finer by a factor of {factor}; a transposed "
                "layer undoes the stride of a layer before it"
            )
        stride = self.stride // factor
        shifted = self.keys + kernel_shifts(kernel_size, stride, self.keys.device)[:, None]  # (K^3, N)
        keys, targets = shifted.flatten().unique(return_inverse=True)
        sources = torch.arange(len(self), device=keys.device).repeat(len(shifted))
        pairs = KernelMap(sources, targets, (len(self),) * len(shifted), len(keys))
        return Voxels(keys, stride, self.batch_size), pairs
