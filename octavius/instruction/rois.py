"""Stored features of a scene's objects come in, one tensor of features with their boxes goes out.

The published 3D data bring no clouds but, for each object, a feature vector and the corners of its box:

    <set>/ins_pc_feat/<scene>/<object>-<name>.npy     (width,)
    <set>/bbox/<scene>/<object>-<name>.npy            (8, 3), metres

A reference names a feature file, for one object, or the folder of a scene, for all of its objects.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from octavius.boxes import Box3D
from octavius.boxes3d import enclosing
from octavius.instruction.clouds import load_array
from octavius.instruction.media import Loader
from octavius.instruction.sample import Media

FEATURES, BOXES = "ins_pc_feat", "bbox"


@dataclass(frozen=True)
class RoiLoader(Loader):
    """Reads the features and boxes of the objects of a scene, or those of one object.

    Attributes:
        width: numbers of a feature vector.
    """

    width: int = 768

    def __call__(self, media: Media) -> Tensor:
        """Features and boxes (O, width + 6), a box as centre and size; float32, none for a scene of no object.

        Raises:
            ValueError: it is an array, there is no such file or folder, or a file holds something else.
        """
        if media.path is None:
            raise ValueError("expected a file or a folder of stored features, found an array")
        rows = [np.concatenate([self._feature(file), box_of(file)]) for file in _files(media.path)]
        stored = np.array(rows, dtype=np.float32).reshape(len(rows), self.width + 6)
        return torch.from_numpy(stored)

    def _feature(self, file: Path) -> np.ndarray:
        feature = load_array(file)
        if feature.size != self.width or feature.dtype.kind != "f":
            raise ValueError(
                f"{file}: expected {self.width} numbers, the width that the encoder was given, found "
                f"{feature.dtype} {feature.shape}"
            )
        if not np.isfinite(feature).all():
            raise ValueError(f"{file}: the feature holds numbers that are not finite; compute it anew")
        return feature.reshape(-1)


def box_of(file: Path) -> Box3D:
    """The box of the object of a feature file: what holds the corners that are stored for it.

    Raises:
        ValueError: they are missing, or are no corners.
    """
    corners = load_array(file.parent.parent.parent / BOXES / file.parent.name / file.name)
    if corners.ndim != 2 or corners.shape[1] != 3 or not len(corners) or corners.dtype.kind not in "fiu":
        raise ValueError(
            f"{file}: its box should be corners (8, 3), found {corners.dtype} {corners.shape} in {BOXES}"
        )
    if not np.isfinite(corners).all():
        raise ValueError(f"{file}: the corners of its box in {BOXES} are not all finite; compute them anew")
    x, y, z, dx, dy, dz = enclosing(torch.from_numpy(corners).double()).tolist()
    return x, y, z, dx, dy, dz


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"no stored features at {path}; check the data root and the annotation file")
    return sorted(path.glob("*.npy"))
