"""Point clouds: all points of a file or array with their colours, upright and aligned, checked.

Files are PLY, in text or binary, and `.npy`. A cloud of a few bytes may say that it has any number of points, at any
distance: what a header promises is compared with the file first, and coordinates stay within what single precision
can tell apart.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from octavius.boxes3d import FARTHEST
from octavius.files import open_file
from octavius.instruction.arrays import MAGIC, load_array
from octavius.instruction.media import Loader
from octavius.instruction.ply import read_vertices
from octavius.instruction.sample import Media, Pose

GREY = 0.4
"""The colour of a cloud without colours, the one that ULIP-2's point encoders know."""

Y_UP: Pose = ((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1))
"""Brings points whose y axis points up, as ShapeNet's, into our frame, whose z axis does."""

VERSION = 1
"""Of the points and colours that are read from the same file; features of another one are not used."""

COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
"""What the colours of a PLY file's vertices are called; the first that is there counts."""

_COLOURED = re.compile(r"(^|_)(red|green|blue|rgba?|colou?rs?)(_|$)|^f_dc")
"""Names that mean colours in some other way, such as the harmonics of Gaussian splats."""

COARSEST = 1e-3
"""The largest step of single precision, as a share of a cloud's extent."""

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
    elif media.path.suffix.lower() == ".npy" or _begins_as_array(media.path):
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
    _check_precision(xyz, source)
    return np.concatenate([xyz, _colours(array[:, 3:], source)], axis=1, dtype=np.float32)


def posed(xyz: np.ndarray, pose: Pose) -> np.ndarray:
    """Points (P, 3) after a rigid motion."""
    matrix = np.array(pose)
    return xyz @ matrix[:3, :3].T + matrix[:3, 3]


def _begins_as_array(path: Path) -> bool:
    """Whether a file that is named otherwise holds an array; `read_vertices` tells what is wrong with others."""
    try:
        with open_file(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _columns(vertices: np.ndarray, path: Path) -> np.ndarray:
    """The places (P, 3), or with colours (P, 6), of a PLY file's vertices; names may be in letters of either case."""
    names = {name.lower(): name for name in sorted(vertices.dtype.names or ())}  # small letters last
    missing = [name for name in ("x", "y", "z") if name not in names]
    if missing:
        raise ValueError(
            f"{path}: its vertices lack {', '.join(missing)}; found {', '.join(vertices.dtype.names or ())[:80]}"
        )
    columns = [vertices[names[name]].astype(np.float64) for name in ("x", "y", "z")]
    colours = next((triple for triple in COLOURS if set(triple) <= set(names)), None)
    if colours is None and (
        unknown := [name for name in vertices.dtype.names or () if _COLOURED.search(name.lower())]
    ):
        raise ValueError(
            f"{path}: its vertices have {', '.join(unknown)[:80]}, which are no colours that can be read; expected "
            f"{' or '.join(', '.join(triple) for triple in COLOURS)}. Rename them, or leave them out for a grey cloud"
        )
    if colours is not None:
        rgb = _fractions(np.stack([vertices[names[name]] for name in colours], axis=1), str(path))
        return np.concatenate([np.stack(columns, axis=1), rgb], axis=1)
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
    if not (np.abs(xyz) <= FARTHEST).all():
        raise ValueError(
            f"{source}: some points lie beyond {FARTHEST:g} metres, at {np.abs(xyz).max():g}; {_BAD_POINTS}"
        )
    if (xyz == xyz[0]).all():
        found = "it has a single point" if len(xyz) == 1 else f"all its {len(xyz)} points lie at one place"
        raise ValueError(f"{source}: {found}, a cloud needs an extent; leave it out")


def _check_precision(xyz: np.ndarray, source: str) -> None:
    """Refuses points so far from the origin that single precision would move them visibly."""
    farthest, extent = np.abs(xyz).max(), (xyz.max(axis=0) - xyz.min(axis=0)).max()
    step = float(np.spacing(np.float32(farthest)))
    if not (farthest <= FARTHEST and step <= extent * COARSEST):
        raise ValueError(
            f"{source}: the cloud extends over {extent:g} metres and lies up to {farthest:g} from the origin, where "
            f"single precision has steps of {step:g}; move it to the origin"
        )


def _colours(rgb: np.ndarray, source: str) -> np.ndarray:
    """Colours (P, 3) in 0..1; whole numbers are bytes, and so are others when one of them is above 1."""
    if not rgb.shape[1]:
        return np.full((len(rgb), 3), GREY)
    rgb = _fractions(rgb, source)
    if not (rgb.min() >= 0 and rgb.max() <= 255):  # also catches NaN
        raise ValueError(
            f"{source}: expected colours in 0..1 or 0..255 in the last three columns, found "
            f"{rgb.min():g} to {rgb.max():g}; if these are normals, keep the first three columns alone"
        )
    return rgb / 255 if rgb.max() > 1 else rgb


def _fractions(values: np.ndarray, source: str) -> np.ndarray:
    """Whole numbers as fractions of 255, or of 65535 where one needs 16 bits; other numbers stay.

    The type does not tell: many files hold bytes in numbers of 16 bits, and arrays hold both in longer ones.
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
