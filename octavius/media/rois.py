"""Loaders of RoIs: features and boxes of a scene's objects, in ragged batches.

RoIs are regions of interest: all objects of a scene, or the one that a question is about. Their number
varies, so they are kept in `torch_geometric.data.Data` with

    x      (O, width)   features
    boxes  (O, 6)       centre and size in metres

The published 3D data contain no point clouds but, for each object, a feature vector and the corners of its box:

    <set>/ins_pc_feat/<scene>/<object>-<name>.npy     (width,)
    <set>/bbox/<scene>/<object>-<name>.npy            (8, 3), metres

A `Media` item points to the feature file of one object, or to the folder of a scene for all of its objects, or
holds an array (O, width + 6) with features, centre and size in each row. PyTorch is imported by the loaders only,
since `octavius check-data` and readers of annotations read RoIs without it.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octavius.boxes import Box3D
from octavius.boxes3d import FARTHEST, enclosing
from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.sample import Media
from octavius.media.arrays import load_array

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Batch, Data

FEATURES, BOXES = "ins_pc_feat", "bbox"

WIDTH = 768
"""Length of the published feature vectors."""


def rois_of(features: Tensor, boxes: Tensor) -> Data:
    """RoIs from features (O, width) and boxes (O, 6), centre and size; O may be 0."""
    from torch_geometric.data import Data

    assert len(features) == len(boxes), "every object has a feature and a box"
    return Data(x=features, boxes=boxes)


class RoiLoader(MediaLoader, ABC):
    """Base class of RoI loaders, which batches RoIs."""

    def collate(self, items: Sequence[Data]) -> Batch:
        """Concatenates the RoIs; `Batch.batch` is the index, in the batch, of the item each RoI comes from."""
        from torch_geometric.data import Batch

        return Batch.from_data_list(list(items))


@dataclass(frozen=True)
class RoiArrayLoader(RoiLoader):
    """Takes features and boxes from arrays.

    Attributes:
        width: length of a feature vector.
    """

    width: int

    def __call__(self, media: Media) -> Data:
        """Features (O, width) and boxes (O, 6), float32.

        Raises:
            ValueError: the item is a file, or an array of another shape.
        """
        import torch

        rows = torch.from_numpy(_rows_of_array(media.array, media.path, self.width))
        return rois_of(rows[:, : self.width], rows[:, self.width :])


@dataclass(frozen=True)
class StoredRoiLoader(RoiLoader):
    """Reads stored features and boxes of a scene's objects or of one object, from files or an array.

    Attributes:
        width: length of a feature vector.
    """

    width: int = WIDTH

    def __call__(self, media: Media) -> Data:
        """Features (O, width) and boxes (O, 6), float32; O is 0 for a scene without detected objects.

        Raises:
            ValueError: the file or folder does not exist, or it or the array is malformed.
        """
        import torch

        rows = torch.from_numpy(read_rois(media, self.width))
        return rois_of(rows[:, : self.width], rows[:, self.width :])


def read_rois(media: Media, width: int = WIDTH) -> np.ndarray:
    """What `StoredRoiLoader` loads, as rows (O, width + 6) of features, centre and size, float32."""
    if media.path is None:  # from a pickle, which holds the arrays of all scenes
        return _rows_of_array(media.array, None, width)
    rows = [np.concatenate([_feature(file, width), box_of(file)]) for file in _files(media.path)]
    return np.array(rows, np.float32).reshape(len(rows), width + 6)


def _rows_of_array(array: np.ndarray | None, path: Path | None, width: int) -> np.ndarray:
    if array is None or array.ndim != 2 or array.shape[1] != width + 6:
        found = f"a file reference: {path}" if array is None else f"one of shape {array.shape}"
        raise ValueError(
            f"expected an array (O, {width + 6}), each row: {width} feature values, then box centre and size; found "
            f"{found}"
        )
    return np.array(array, dtype=np.float32)


def _feature(file: Path, width: int) -> np.ndarray:
    feature = load_array(file)
    if feature.size != width or feature.dtype.kind != "f":
        raise ValueError(
            f"{file}: expected {width} numbers, the width that the encoder was given, found {feature.dtype} "
            f"{feature.shape}"
        )
    with np.errstate(over="ignore"):
        single = feature.reshape(-1).astype(np.float32)
    if not np.isfinite(single).all():  # also where the value overflowed to infinity
        raise ValueError(f"{file}: the feature holds numbers that are not finite; recompute it")
    return single


def box_of(file: Path) -> Box3D:
    """Axis-aligned box around the corners stored for the object in `file`.

    Raises:
        ValueError: they are missing or malformed.
    """
    corners = load_array(file.parent.parent.parent / BOXES / file.parent.name / file.name)
    if corners.ndim != 2 or corners.shape[1] != 3 or not len(corners) or corners.dtype.kind not in "fiu":
        raise ValueError(
            f"{file}: its box should be corners (N, 3), found {corners.dtype} {corners.shape} in {BOXES}"
        )
    if not np.isfinite(corners).all():
        raise ValueError(f"{file}: the corners of its box in {BOXES} are not all finite; recompute them")
    if not (np.abs(corners) <= FARTHEST).all():
        raise ValueError(
            f"{file}: corners of its box in {BOXES} lie beyond {FARTHEST:g} metres; recompute them"
        )
    x, y, z, dx, dy, dz = enclosing(corners.astype(np.float64)).tolist()
    return x, y, z, dx, dy, dz


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"no stored features at {path}; check the data root and the annotation file")
    return sorted(path.glob("*.npy"))
