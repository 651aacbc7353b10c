"""Point-cloud loader: reads files of the forms in `octavius.media.cloud_forms`, validates, aligns and colours.

A small file may claim any number of points, at any distance: the header's claim is compared with the file
size first, and coordinates must be within what single precision can resolve. PyTorch is imported by the
loader only, since `octavius check-data` and readers of annotations read points without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octavius.boxes3d import FARTHEST
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media, Pose
from octavius.media.cloud_forms import read_columns
from octavius.media.meshes import GREY

if TYPE_CHECKING:
    from torch import Tensor

Y_UP: Pose = ((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1))
"""Pose that turns y-up points, such as ShapeNet's, to z-up."""

VERSION = 1
"""Incremented when the same file yields other points or colours; cached features of other versions are not used."""

COLOURS = tuple(
    tuple(f"{prefix}{name}" for name in names)
    for names in (("red", "green", "blue"), ("r", "g", "b"))
    for prefix in ("", "diffuse_", "scalar_", "vertex_")
)
"""Names of colour properties in PLY and PCD files; the first triple found is used. CloudCompare writes `scalar_R`."""

_COLOURED = re.compile(r"(^|_)(red|green|blue|rgba?|colou?rs?)(_|$)|^f_dc")
"""Names that encode colour in another way, such as the spherical harmonics of Gaussian splats."""

COARSEST = 1e-3
"""Largest rounding step of single precision, as a fraction of a cloud's extent."""

ROUNDING = 0.01
"""How far above 1 colours in 0..1 may lie."""

_BAD_POINTS = "remove such points, or leave the cloud out"


@dataclass(frozen=True)
class CloudLoader(MediaLoader):
    """Loads all points of a cloud from a file, or from an array; of a mesh, points on its surface.

    Points are not subsampled, and the region of a sample is not cropped: how many points and how much context
    an object needs depends on the encoder.
    """

    def __call__(self, media: Media) -> Tensor:
        """Points (P, 6), float32: x, y, z after the reference's pose, then red, green, blue in 0..1.

        Raises:
            ValueError: the file does not exist or cannot be read, or is not a cloud: no point, all points at
                one position, non-finite coordinates, or colours out of range.
        """
        import torch

        return torch.from_numpy(read_points(media))


def read_points(media: Media) -> np.ndarray:
    """What `CloudLoader` loads, as an array (P, 6), float32."""
    if media.path is None:
        array, source = np.asarray(media.array), "the array"
    else:
        array, source = read_columns(media.path), str(media.path)
        if array.dtype.names:
            array = _columns(array, media.path)
    if array.ndim != 2 or array.shape[1] not in (3, 6) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{source}: expected points (P, 3), or with colours (P, 6), found {array.dtype} {array.shape}"
        )
    xyz = array[:, :3].astype(np.float64)
    _check_places(xyz, source)
    if media.pose is not None:
        xyz = posed(xyz, media.pose)
    _check_precision(xyz, source)
    return np.concatenate([xyz, _colours(array[:, 3:], source)], axis=1, dtype=np.float32)


def posed(xyz: np.ndarray, pose: Pose) -> np.ndarray:
    """Applies a rigid motion to points (P, 3)."""
    matrix = np.array(pose)
    return xyz @ matrix[:3, :3].T + matrix[:3, 3]


def _columns(vertices: np.ndarray, path: Path) -> np.ndarray:
    """Positions (P, 3), or with colours (P, 6), from the named columns of a file; names in any case."""
    names = {name.lower(): name for name in sorted(vertices.dtype.names or ())}  # lowercase names win
    missing = [name for name in ("x", "y", "z") if name not in names]
    if missing:
        raise ValueError(
            f"{path}: its vertices lack {', '.join(missing)}; found {', '.join(vertices.dtype.names or ())[:80]}"
        )
    columns = [vertices[names[name]].astype(np.float64) for name in ("x", "y", "z")]
    colours = next((triple for triple in COLOURS if set(triple) <= set(names)), None)
    if colours is None and (unknown := _other_colours(vertices.dtype.names or ())):
        raise ValueError(
            f"{path}: its vertices have {', '.join(unknown)[:80]}, which are no colours that can be read; expected "
            "red, green, blue, or r, g, b, or these after diffuse_, scalar_ or vertex_. Rename them, or "
            "leave them out for a grey cloud"
        )
    if colours is not None:
        channels = [vertices[names[name]] for name in colours]
        if len({channel.dtype for channel in channels}) > 1:  # such as 8 bits for one, 16 for another
            raise ValueError(
                f"{path}: {', '.join(colours)} have the types {', '.join(str(one.dtype) for one in channels)}; "
                "expected one type for all three, such as uchar"
            )
        rgb = _fractions(np.stack(channels, axis=1), str(path))
        return np.concatenate([np.stack(columns, axis=1), rgb], axis=1)
    return np.stack(columns, axis=1)


def _other_colours(names: tuple[str, ...]) -> list[str]:
    """The names that hold colours in a form that is not read, such as `scalar_R`, `scalar_G` and `scalar_B`."""
    plain = {name: name.lower().rstrip("0123456789") for name in names}  # `red8` and `color0` too
    found = set(plain.values())
    stems = {name[:-1] for name in found if name.endswith(("r", "g", "b"))}
    several = {stem for stem in stems if sum(f"{stem}{end}" in found for end in "rgb") >= 2}
    return [
        name
        for name, bare in plain.items()
        if _COLOURED.search(bare) or (bare[:-1] in several and bare.endswith(("r", "g", "b")))
    ]


def _check_places(xyz: np.ndarray, source: str) -> None:
    if not len(xyz):
        raise ValueError(f"{source}: the cloud is empty, it has no point; leave it out")
    wrong = np.flatnonzero(~np.isfinite(xyz).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{source}: {len(wrong)} of {len(xyz)} points are NaN or infinite, the first is number {wrong[0]}; "
            f"{_BAD_POINTS}"
        )
    if not (np.abs(xyz) <= FARTHEST).all():
        raise ValueError(
            f"{source}: some points lie beyond {FARTHEST:g} metres, at {np.abs(xyz).max():g}; {_BAD_POINTS}"
        )
    if (xyz == xyz[0]).all():
        found = "it has a single point" if len(xyz) == 1 else f"all its {len(xyz)} points lie at one place"
        raise ValueError(f"{source}: {found}, a cloud needs an extent; leave it out")


def _check_precision(xyz: np.ndarray, source: str) -> None:
    """Refuses points so far from the origin that rounding to single precision would move them visibly."""
    farthest, extent = np.abs(xyz).max(), (xyz.max(axis=0) - xyz.min(axis=0)).max()
    step = float(np.spacing(np.float32(farthest)))
    if not (farthest <= FARTHEST and step <= extent * COARSEST):
        raise ValueError(
            f"{source}: the cloud extends over {extent:g} metres and lies up to {farthest:g} from the origin, where "
            f"single precision has steps of {step:g}; move it to the origin"
        )


def _colours(rgb: np.ndarray, source: str) -> np.ndarray:
    """Colours (P, 3) in 0..1; integers, and floats if any is above 1, are taken as 0..255."""
    if not rgb.shape[1]:
        return np.full((len(rgb), 3), GREY)
    rgb = _fractions(rgb, source)
    if not (rgb.min() >= 0 and rgb.max() <= 255):  # also catches NaN
        raise ValueError(
            f"{source}: expected colours in 0..1 or 0..255 in the last three columns, found "
            f"{rgb.min():g} to {rgb.max():g}; if these are normals, keep the first three columns alone"
        )
    # Up to 1 % above 1 is the rounding of colours in 0..1.
    return rgb / 255 if rgb.max() > 1 + ROUNDING else np.minimum(rgb, 1)


def _fractions(values: np.ndarray, source: str) -> np.ndarray:
    """Integers as fractions of 255, or of 65535 if any exceeds 8 bits; floats are returned as they are.

    The dtype does not decide: many files store 8-bit colours as 16-bit integers, and arrays store both as
    wider ones.
    """
    if values.dtype.kind not in "iu" or not len(values):
        return values.astype(np.float64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535 or values.dtype == np.int8:
        raise ValueError(
            f"{source}: expected colours of 8 bits (0 to 255) or 16 bits (0 to 65535) without a sign, found "
            f"{values.dtype}, {low} to {high}; save them as uchar"
        )
    return values / (255.0 if high <= 255 else 65535.0)
