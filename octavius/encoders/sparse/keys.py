"""Voxel coordinates (cloud, x, y, z) come in; one number for each, which sorts and shifts like it, goes out.

A key holds the cloud in its top bits and then x, y, z in 16 bits each. Going from a voxel to a neighbour adds
the same number to the key of any voxel, and a neighbour is looked up by a binary search in sorted keys.
"""

import torch
from torch import Tensor

AXIS = 16
"""Bits of one axis."""
CENTRE = 2 ** (AXIS - 1)
"""What is added to a coordinate so that it is not negative."""
MARGIN = 2048
"""How far voxels that a network makes, and the neighbours that it looks for, may lie outside of the limit."""
LIMIT = CENTRE - MARGIN
"""The largest coordinate, up or down, of a voxel that holds points."""
REACH = MARGIN // 2
"""The largest size of a kernel in finest voxels. A chain of strided layers and of transposed ones back again
then leaves the limit by less than twice this much."""


def pack(coords: Tensor) -> Tensor:
    """Keys (N,) of coordinates (N, 4)."""
    cloud, x, y, z = coords.unbind(1)
    return (((((cloud << AXIS) + x + CENTRE) << AXIS) + y + CENTRE) << AXIS) + z + CENTRE


def unpack(keys: Tensor) -> Tensor:
    """Coordinates (N, 4) of keys (N,)."""
    mask = 2**AXIS - 1
    axes = [((keys >> (AXIS * place)) & mask) - CENTRE for place in (2, 1, 0)]
    return torch.stack([keys >> (3 * AXIS), *axes], dim=1)


def kernel_offsets(kernel_size: int, step: int) -> list[tuple[int, int, int]]:
    """The offsets of a cubic kernel whose cells are `step` wide, x fastest; only an odd one is centred.

    >>> kernel_offsets(2, 4)[:3]
    [(0, 0, 0), (4, 0, 0), (0, 4, 0)]
    """
    if kernel_size < 1:
        raise ValueError(f"expected a kernel of size 1 or more, found {kernel_size}")
    if kernel_size * step > REACH:
        raise ValueError(
            f"a kernel of {kernel_size} voxels of stride {step} spans {kernel_size * step} of the finest voxels, "
            f"more than the {REACH} that there is room for; use fewer strided layers or a smaller kernel"
        )
    start = kernel_size // 2 if kernel_size % 2 else 0
    line = [(place - start) * step for place in range(kernel_size)]
    return [(x, y, z) for z in line for y in line for x in line]


def kernel_shifts(kernel_size: int, step: int, device: torch.device) -> Tensor:
    """What the offsets of a kernel add to a key (K^3,)."""
    shifts = [(x << 2 * AXIS) + (y << AXIS) + z for x, y, z in kernel_offsets(kernel_size, step)]
    return torch.tensor(shifts, device=device)


def find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Places of the wanted keys (any shape) in sorted keys (N,); -1 for those that are not there."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    places = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return torch.where(keys[places] == wanted, places, -1)


def first_of_each(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct keys, sorted, and the first place of each."""
    ordered, places = keys.sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new], places[new]


def check_range(positions: Tensor) -> None:
    """Refuses positions in finest voxels that have no key: NaN, infinite, or too far away."""
    far = (positions.abs() <= LIMIT).logical_not().any(1)  # the comparison is false for NaN, too
    if bool(far.any()):
        bad = int(far.nonzero()[0])
        raise ValueError(
            f"expected positions within {LIMIT} voxels of the origin, found {positions[bad].tolist()} (number "
            f"{bad}); centre the cloud, or choose a larger voxel size, in the unit of the points"
        )
