"""A file of boxes of any detector comes in, boxes and scores of what may be objects in one scene go out, and back.

One file a scene, `<scan>.npz`, `<scan>.npy` or `<scan>.json`. Boxes are centre and size in metres, in the frame in
which the scene's questions speak: upright and aligned.

    .npz    boxes (K, 6), scores (K,)
    .npy    (K, 7), or (K, 6) without scores
    .json   {"boxes": [[x, y, z, dx, dy, dz], ..], "scores": [0.9, ..]}

Without scores the boxes are taken in their order, as if the surest came first.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from octavius.boxes3d import PLAIN, problem
from octavius.instruction.clouds import load_array

ENDINGS = (".npz", ".npy", ".json")


def find_proposals(folder: Path, scans: Iterable[str]) -> Path:
    """The file of a scan under one of its names.

    Raises:
        ValueError: there is none.
    """
    tried = [folder / f"{name}{ending}" for name in dict.fromkeys(scans) for ending in ENDINGS]
    for file in tried:
        if file.is_file():
            return file
    raise ValueError(
        f"no proposals in {folder}; expected one of {', '.join(file.name for file in tried)}. A scene in which "
        "nothing was found has a file of no boxes"
    )


def write_proposals(file: Path, boxes: Tensor, scores: Tensor) -> None:
    """Writes boxes (K, 6) and scores (K,) of a scene as `.npz`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, boxes=boxes.cpu().numpy(), scores=scores.cpu().numpy())


def read_proposals(file: Path) -> tuple[Tensor, Tensor]:
    """Boxes (K, 6) and scores (K,) of a file; K may be 0.

    Raises:
        ValueError: it holds something else.
    """
    boxes, scores = _read(file)
    try:
        found = np.asarray(boxes, np.float64)
        found = found.reshape(0, PLAIN) if not found.size else found
        sure = np.arange(len(found), 0, -1.0) if scores is None else np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: its boxes or scores are no numbers: {error}") from None
    if found.ndim != 2 or found.shape[1] != PLAIN or sure.shape != (len(found),):
        raise ValueError(
            f"{file}: expected boxes (K, 6), centre and size, and scores (K,), found {found.shape} and {sure.shape}"
        )
    wrong = [(place, said) for place, box in enumerate(found.tolist()) if (said := problem(box))]
    if wrong or not np.isfinite(sure).all():
        said = f"box {wrong[0][0]}: {wrong[0][1]}" if wrong else "a score is not finite"
        raise ValueError(f"{file}: {said}; leave such boxes out")
    return torch.from_numpy(found), torch.from_numpy(sure)


def _read(file: Path) -> tuple[Any, Any]:
    """What a file holds as boxes and as scores."""
    if file.suffix == ".npy":
        rows = load_array(file)
        scored = rows.ndim == 2 and rows.shape[1] == PLAIN + 1
        return (rows[:, :PLAIN], rows[:, PLAIN]) if scored else (rows, None)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        else:
            found = json.loads(file.read_bytes())
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{file} cannot be read ({error}); write it again") from None
    if not isinstance(found, dict) or "boxes" not in found:
        names = ", ".join(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{file}: expected `boxes` and `scores`, found {names or 'nothing'}")
    return found["boxes"], found.get("scores")
