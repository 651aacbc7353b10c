"""Proposal files: boxes with scores from any detector, one file per scene.

Files are `<scan>.npz`, `<scan>.npy` or `<scan>.json`. Boxes are centre and size in metres, in the upright and
aligned frame of the scene's questions.

    .npz    boxes (K, 6), scores (K,)
    .npy    (K, 7), or (K, 6) without scores
    .json   {"boxes": [[x, y, z, dx, dy, dz], ..], "scores": [0.9, ..]}

Boxes without scores are taken to be sorted by descending score.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np

from octavius.boxes3d import PLAIN, box_error
from octavius.files import atomic_write, open_file
from octavius.media.arrays import load_array, load_arrays

ENDINGS = (".npz", ".npy", ".json")


def find_proposals(folder: Path, scans: Iterable[str]) -> Path:
    """The proposal file of a scene that is known by several names.

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


def write_proposals(file: Path, boxes: np.ndarray, scores: np.ndarray) -> None:
    """Writes boxes (K, 6) and scores (K,) of a scene as `.npz`."""
    with atomic_write(file) as partial:
        np.savez(partial, boxes=boxes, scores=scores)


def read_proposals(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (K, 6) and scores (K,) of a file, in double precision; K may be 0.

    Raises:
        ValueError: the content is malformed.
    """
    boxes, scores = _read(file)
    found = boxes.reshape(0, PLAIN) if not boxes.size else boxes
    sure = np.arange(len(found), 0, -1.0) if scores is None else scores
    if found.ndim != 2 or found.shape[1] != PLAIN or sure.shape != (len(found),):
        raise ValueError(
            f"{file}: expected boxes (K, 6), centre and size, and scores (K,), found {found.shape} and {sure.shape}"
        )
    wrong = [(index, said) for index, box in enumerate(found.tolist()) if (said := box_error(box))]
    if wrong or not np.isfinite(sure).all():
        said = f"box {wrong[0][0]}: {wrong[0][1]}" if wrong else "a score is not finite"
        raise ValueError(f"{file}: {said}; leave such boxes out")
    return found, sure


def _read(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Boxes and scores as stored, in double precision; scores may be None."""
    if file.suffix == ".npy":
        rows = _as_numbers(load_array(file), file)
        scored = rows.ndim == 2 and rows.shape[1] == PLAIN + 1
        return (rows[:, :PLAIN], rows[:, PLAIN]) if scored else (rows, None)
    found = load_arrays(file, ("boxes", "scores")) if file.suffix == ".npz" else _of_json(file)
    if "boxes" not in found:
        raise ValueError(f"{file}: expected `boxes` and `scores`, found {', '.join(found)[:80] or 'nothing'}")
    scores = found.get("scores")
    return _as_numbers(found["boxes"], file), None if scores is None else _as_numbers(scores, file)


def _of_json(file: Path) -> dict[str, Any]:
    try:
        with open_file(file) as stream:
            found = json.loads(stream.read())
    except (OSError, ValueError, RecursionError) as error:  # the last one: nested too deeply
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{file} cannot be read ({reason}); write it again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected `boxes` and `scores`, found {type(found).__name__}")
    return found


def _as_numbers(values: Any, file: Path) -> np.ndarray:
    """An array, or nested lists from JSON, in double precision."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "fiu":
            raise ValueError(f"{file}: its boxes or scores are no numbers, but {values.dtype}")
        return values.astype(np.float64)
    try:
        # NumPy also accepts strings and booleans, and may build arrays from them far larger than the file.
        if not isinstance(values, list) or not all(map(_is_number, _leaves(values))):
            raise ValueError(short(values)[:80])
        return np.array(values, np.float64)
    except ValueError as error:  # lists of different lengths, too
        raise ValueError(f"{file}: its boxes or scores are no numbers: {error}") from None


def _leaves(values: list[Any]) -> Iterator[Any]:
    """The non-list values in nested lists; iterative, so that no nesting exhausts the stack."""
    waiting = [values]
    while waiting:
        for value in waiting.pop():
            if isinstance(value, list):
                waiting.append(value)
            else:
                yield value


def _is_number(value: Any) -> bool:
    """Whether a value is a float, finite or not, or an integer that converts to one."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)
