"""A reference to a point cloud comes in, its points with their colours, upright and aligned, go out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from octavius.instruction.media import Loader
from octavius.instruction.ply import read_vertices
from octavius.instruction.sample import Media, Pose

GREY = 0.4
"""The colour of a cloud without colours, the one that ULIP-2's point encoders know."""

Y_UP: Pose = ((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1))
"""Brings points whose y axis points up, as ShapeNet's, into our frame, whose z axis does."""

_BAD_POINTS = "remove such points, or leave the cloud out"


@dataclass(frozen=True)
class CloudLoader(Loader):
    """Reads all points of a cloud from a PLY or `.npy` file, or takes those of an array.

    Points are not thinned and the region of an instance task is not cut out: how many points are enough, and
    how much of its surroundings an object needs, is for the encoder to say.
    """

    def __call__(self, media: Media) -> Tensor:
        """Points (P, 6): x, y, z in the frame of the reference's pose, then red, green, blue in 0..1; float32.

        Raises:
            ValueError: no such file, none that can be read to its end, or no cloud: no point, all points at one
                place, coordinates that are not finite, colours out of their range.
        """
        return torch.from_numpy(read_points(media))


def read_points(media: Media) -> np.ndarray:
    """What the loader gives, as an array: points (P, 6), float32."""
    if media.path is None:
        array, source = np.asarray(media.array), "the array"
    elif media.path.suffix.lower() == ".npy":
        array, source = load_array(media.path), str(media.path)
    else:
        array, source = _columns(read_vertices(media.path), media.path), str(media.path)
    if array.ndim != 2 or array.shape[1] not in (3, 6) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{source}: expected points (P, 3), or with colours (P, 6), found {array.dtype} {array.shape}"
        )
    xyz = array[:, :3].astype(np.float64)
    _check_places(xyz, source)
    if media.pose is not None:
        xyz = posed(xyz, media.pose)
    return np.concatenate([xyz, _colours(array[:, 3:], source)], axis=1, dtype=np.float32)


def posed(xyz: np.ndarray, pose: Pose) -> np.ndarray:
    """Points (P, 3) after a rigid motion."""
    matrix = np.array(pose)
    return xyz @ matrix[:3, :3].T + matrix[:3, 3]


def load_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file.

    Raises:
        ValueError: no such file, or none that holds one plain array.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"no file at {path}; check the data root and the annotation file") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not an array that can be read ({error}); copy it again") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays; expected a .npy file with one")
    return array


def _columns(vertices: np.ndarray, path: Path) -> np.ndarray:
    """The places (P, 3), or with colours (P, 6), of a PLY file's vertices."""
    names = vertices.dtype.names or ()
    missing = [name for name in ("x", "y", "z") if name not in names]
    if missing:
        raise ValueError(f"{path}: its vertices lack {', '.join(missing)}; found {', '.join(names)}")
    columns = [vertices[name].astype(np.float64) for name in ("x", "y", "z")]
    if {"red", "green", "blue"} <= set(names):
        columns += [_fractions(vertices[name]) for name in ("red", "green", "blue")]
    return np.stack(columns, axis=1)


def _check_places(xyz: np.ndarray, source: str) -> None:
    if not len(xyz):
        raise ValueError(f"{source}: the cloud is empty, it has no point; leave it out")
    wrong = np.flatnonzero(~np.isfinite(xyz).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{source}: {len(wrong)} of {len(xyz)} points are NaN or infinite, the first is number {wrong[0]}; "
            f"{_BAD_POINTS}"
        )
    if (xyz == xyz[0]).all():
        found = "it has a single point" if len(xyz) == 1 else f"all its {len(xyz)} points lie at one place"
        raise ValueError(f"{source}: {found}, a cloud needs an extent; leave it out")


def _colours(rgb: np.ndarray, source: str) -> np.ndarray:
    """Colours (P, 3) in 0..1; whole numbers are bytes, and so are others when one of them is above 1."""
    if not rgb.shape[1]:
        return np.full((len(rgb), 3), GREY)
    rgb = _fractions(rgb)
    if not (rgb.min() >= 0 and rgb.max() <= 255):  # also catches NaN
        raise ValueError(
            f"{source}: expected colours in 0..1 or 0..255 in the last three columns, found "
            f"{rgb.min():g} to {rgb.max():g}; if these are normals, keep the first three columns alone"
        )
    return rgb / 255 if rgb.max() > 1 else rgb


def _fractions(values: np.ndarray) -> np.ndarray:
    """Bytes as fractions of 255; numbers that are not whole ones stay."""
    return values / 255.0 if values.dtype.kind in "iu" else values.astype(np.float64)
