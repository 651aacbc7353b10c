"""Sources of proposals: the boxes in a scene that may contain objects, best first.

The setting `proposals` names the source:

- `gold`: the annotated objects (`Media.objects`), largest first.
- a folder of files from any detector, one file per scene, as in `octavius.media.proposals`. `<scan>` is
  the name of the cloud's file without suffix, or of its folder, such as `scene0000_00`.
- the folder of one of our detectors, such as `miniature/detector`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from octavius.boxes3d import stack, volume
from octavius.encoders.detector.detector import CONFIG, WEIGHTS, Detector, load_detector
from octavius.encoders.detector.proposals import suppressed
from octavius.encoders.feature_cache import content
from octavius.encoders.known_files import digest_of
from octavius.instruction.sample import Media
from octavius.media.proposals import find_proposals, read_proposals
from octavius.presets import find_checkpoint

Kind: TypeAlias = Literal["gold", "files", "detector"]
Finder: TypeAlias = Callable[[Media, Tensor], Tensor]

OVERLAP = 0.25
"""IoU above which the lower-scored of two proposals is dropped, whatever their classes."""


@dataclass(frozen=True)
class ProposalSource:
    """Source of boxes.

    Attributes:
        kind: which of the three sources of the module's docstring.
        folder: folder of the files or of the detector; None for `gold`.
    """

    kind: Kind
    folder: Path | None = None

    def facts(self) -> str:
        """What the boxes of this source depend on in every scene, for the cache key."""
        if self.kind == "gold":
            return "the annotated objects"
        if self.kind == "files":
            return "files, one a scene"
        assert self.folder is not None
        return f"the detector whose files have the SHA-256 {content(self.folder, CONFIG, WEIGHTS)}"

    def facts_of(self, media: Media) -> Any:
        """What they depend on in one scene, for the cache key; None if a single object is meant."""
        if media.region is not None or self.kind == "detector":
            return None
        return media.objects if self.kind == "gold" else digest_of(self._file(media))

    def finder(self, device: torch.device | str) -> Finder:
        """A function from a scene (its `Media` and points (P, 6)) to its boxes (K, 6), best first.

        It raises `ValueError` for a scene without boxes of this source, or with a malformed file.
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
            boxes, scores = map(torch.from_numpy, read_proposals(self._file(media)))
        else:
            assert detector is not None
            [found] = detector.propose(points, torch.zeros_like(points[:, 0], dtype=torch.long))
            boxes, scores = found.boxes, found.scores
        return boxes[suppressed(boxes, scores, OVERLAP)].to(points)

    def _file(self, media: Media) -> Path:
        """The proposal file of a scene."""
        if media.path is None:
            raise ValueError("proposals are files, one a scene, but this scene is an array without a name")
        assert self.folder is not None
        return find_proposals(self.folder, (media.path.stem, media.path.absolute().parent.name))


def source_of(setting: str) -> ProposalSource:
    """Parses the setting `proposals`.

    Raises:
        ValueError: it is none of the three sources.
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


def _annotated(media: Media) -> Tensor:
    """The boxes of the annotated objects, largest first: there are no scores to select by if there are too many."""
    if media.objects is None:
        raise ValueError(
            f"proposals are 'gold', but the objects of {media.path or 'this array'} are not annotated; set "
            "`proposals` to a detector or to a folder of files"
        )
    boxes = torch.from_numpy(stack(media.objects))
    return boxes[volume(boxes).argsort(descending=True, stable=True)]
