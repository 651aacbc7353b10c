"""A setting and a scene come in, the boxes of what may be objects in it go out, the best first.

The setting names where boxes come from:

- `gold`: the annotated objects that the scene's reader tells of (`Media.objects`), the largest first.
- a folder of files, one a scene, `<scan>.npz`, `<scan>.npy` or `<scan>.json`, of whatever detector. `<scan>` is
  the name of the cloud's file without its ending, or that of the folder which it lies in, as `scene0000_00`.
  Boxes are centre and size in metres, in the frame in which the scene's questions speak: upright and aligned.

      .npz    boxes (K, 6), scores (K,)
      .npy    (K, 7), or (K, 6) without scores
      .json   {"boxes": [[x, y, z, dx, dy, dz], ..], "scores": [0.9, ..]}

  Without scores the boxes are taken in their order, as if the surest came first.
- the folder of a detector of ours, such as `miniature/detector`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from octavius.boxes3d import PLAIN, problem, stack, volume
from octavius.encoders.detector.detector import CONFIG, WEIGHTS, Detector, load_detector
from octavius.encoders.detector.proposals import suppressed
from octavius.encoders.rois.roi_cache import content, file_identity
from octavius.instruction.clouds import load_array
from octavius.instruction.sample import Media
from octavius.presets import find_checkpoint

Kind: TypeAlias = Literal["gold", "files", "detector"]
Finder: TypeAlias = Callable[[Media, Tensor], Tensor]

OVERLAP = 0.25
"""The IoU above which the worse of two proposals goes, whatever their classes."""

ENDINGS = (".npz", ".npy", ".json")


@dataclass(frozen=True)
class ProposalSource:
    """Where boxes come from.

    Attributes:
        kind: which of the three.
        folder: of the files, or of the detector; None for `gold`.
    """

    kind: Kind
    folder: Path | None = None

    def words(self) -> str:
        """What boxes of this source depend on, whatever the scene."""
        if self.kind == "gold":
            return "the annotated objects"
        if self.kind == "files":
            return "files, one a scene"
        assert self.folder is not None
        return f"the detector whose files have the SHA-256 {content(self.folder, CONFIG, WEIGHTS)}"

    def told(self, media: Media) -> Any:
        """What they depend on that is told with one scene; nothing where one object is meant."""
        if media.region is not None or self.kind == "detector":
            return None
        return media.objects if self.kind == "gold" else file_identity(self._file(media))

    def finder(self, device: torch.device | str) -> Finder:
        """What gives the boxes (K, 6) of a scene from its reference and its points (P, 6), the best first.

        It raises a `ValueError` for a scene without boxes of this source, or whose file holds something else.
        """
        detector = None
        if self.kind == "detector":
            assert self.folder is not None
            detector = load_detector(self.folder).to(device)
        return partial(self._boxes, detector)

    def _boxes(self, detector: Detector | None, media: Media, points: Tensor) -> Tensor:
        if self.kind == "gold":
            return _annotated(media).to(points)
        if self.kind == "files":
            boxes, scores = read_proposals(self._file(media))
        else:
            assert detector is not None
            [found] = detector.propose(points, torch.zeros_like(points[:, 0], dtype=torch.long))
            boxes, scores = found.boxes, found.scores
        return boxes[suppressed(boxes, scores, OVERLAP)].to(points)

    def _file(self, media: Media) -> Path:
        """The file of a scene."""
        if media.path is None:
            raise ValueError("proposals are files, one a scene, but this scene is an array without a name")
        assert self.folder is not None
        names = dict.fromkeys((media.path.stem, media.path.absolute().parent.name))
        tried = [self.folder / f"{name}{ending}" for name in names for ending in ENDINGS]
        for file in tried:
            if file.is_file():
                return file
        raise ValueError(
            f"no proposals of the scene {media.path} in {self.folder}; expected one of "
            f"{', '.join(file.name for file in tried)}. A scene in which nothing was found has a file of no boxes"
        )


def source_of(setting: str) -> ProposalSource:
    """The source that a setting names.

    Raises:
        ValueError: it is none of the three.
    """
    if setting == "gold":
        return ProposalSource("gold")
    here = Path(setting).expanduser()
    if here.is_dir() and not (here / CONFIG).is_file():
        return ProposalSource("files", here)
    try:
        folder = find_checkpoint(setting)
        if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
            raise ValueError(f"{folder} holds no {' and no '.join(missing)}")
    except ValueError as error:
        raise ValueError(
            "proposals are 'gold' (the annotated objects), a folder of files with boxes, or the folder of a "
            f"detector, but {error}"
        ) from None
    return ProposalSource("detector", folder)


def read_proposals(file: Path) -> tuple[Tensor, Tensor]:
    """Boxes (K, 6) and scores (K,) of a file of proposals; K may be 0.

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


def _annotated(media: Media) -> Tensor:
    """The boxes of the annotated objects, the largest first: no score says which of too many matter most."""
    if media.objects is None:
        raise ValueError(
            f"proposals are 'gold', but nothing tells of the objects of {media.path or 'this array'}; set "
            "`proposals` to a detector or to a folder of files"
        )
    boxes = stack(media.objects)
    return boxes[volume(boxes).argsort(descending=True, stable=True)]
