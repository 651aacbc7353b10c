"""Voxel coordinates (cloud, x, y, z) packed into one sortable integer.

A key has the cloud in its top bits, then x, y, z in 16 bits each. The step to a neighbour is the same addend
for all voxels, and a neighbour is found by binary search in sorted keys.
"""

import torch
from torch import Tensor

AXIS = 16
"""Bits per axis."""
CENTRE = 2 ** (AXIS - 1)
"""Offset that makes coordinates non-negative."""
MARGIN = 2048
"""Room beyond `LIMIT` for voxels that a network generates and for the neighbours that it looks up."""
LIMIT = CENTRE - MARGIN
"""Largest absolute coordinate of a voxel that contains points."""
REACH = MARGIN // 2
"""Largest kernel size in finest voxels.

A chain of strided layers, and of transposed ones back, then exceeds the limit by less than twice this size.
"""


def pack(coords: Tensor) -> Tensor:
    """Packs coordinates (N, 4) into keys (N,)."""
    cloud, x, y, z = coords.unbind(1)
    return (((((cloud << AXIS) + x + CENTRE) << AXIS) + y + CENTRE) << AXIS) + z + CENTRE


def unpack(keys: Tensor) -> Tensor:
    """Unpacks keys (N,) into coordinates (N, 4)."""
    mask = 2**AXIS - 1
    axes = [((keys >> (AXIS * axis)) & mask) - CENTRE for axis in (2, 1, 0)]
    return torch.stack([keys >> (3 * AXIS), *axes], dim=1)


def kernel_offsets(kernel_size: int, step: int) -> list[tuple[int, int, int]]:
    """Offsets of a cubic kernel with cells of `step`, x fastest; only an odd kernel is centred.

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
    line = [(index - start) * step for index in range(kernel_size)]
    return [(x, y, z) for z in line for y in line for x in line]


def kernel_shifts(kernel_size: int, step: int, device: torch.device) -> Tensor:
    """What each offset of a kernel adds to a key, (K^3,)."""
    shifts = [(x << 2 * AXIS) + (y << AXIS) + z for x, y, z in kernel_offsets(kernel_size, step)]
    return torch.tensor(shifts, device=device)


def find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Indices of the wanted keys (any shape) in sorted keys (N,); -1 if missing."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    indices = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return torch.where(keys[indices] == wanted, indices, -1)


def first_of_each(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct keys, sorted, and the index of the first occurrence of each."""
    ordered, indices = keys.sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new], indices[new]


def check_range(positions: Tensor) -> None:
    """Refuses positions, in finest voxels, that have no key: NaN, infinite, or too far away."""
    far = (positions.abs() <= LIMIT).logical_not().any(1)  # the comparison is false for NaN, too
    if bool(far.any()):
        bad = int(far.nonzero()[0])
        raise ValueError(
            f"expected positions within {LIMIT} voxels of the origin, found {positions[bad].tolist()} (number "
            f"{bad}); centre the cloud, or choose a larger voxel size, in the unit of the points"
        )
