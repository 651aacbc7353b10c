"""COCO's or ScanNet's annotation files come in; what they tell of each picture or scan goes out, in one form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.benchmarks.base import BadPolicy
from datamodules.benchmarks.clouds import scannet, scanrefer
from datamodules.benchmarks.clouds.scannet import DETECTION_CLASSES
from datamodules.benchmarks.images import coco
from datamodules.instructions.wordings import mentioned
from octavius.instruction.sample import Boxes, References, Sample

OTHER_FURNITURE = 39
"""NYU40 number of what the detection benchmark calls garbage bins, and what holds much else."""


@dataclass(frozen=True)
class Thing:
    """One annotated object.

    Attributes:
        id: its number, unique in its picture or scan; in scans the `objectId` that all annotations use.
        label: what the annotators call it, blanks for underscores.
        kind: the class in which objects are counted; empty for one that no list of classes is complete in.
        box: of a picture its edges x1, y1, x2, y2 as fractions, of a scan its centre and size in metres, aligned.
    """

    id: str
    label: str
    kind: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class Annotation:
    """What is known of one picture or scan.

    Attributes:
        name: the id of the picture, or the name of the scan.
        things: its objects.
        kinds: the classes that annotators looked for everywhere: what they tell nothing of is absent.
        image: the picture; None for a scan.
        crowds: classes of which there are more than `things` tells.
        captions: sentences about all of it.
        descriptions: sentences about single objects, by their ids.
    """

    name: str
    things: tuple[Thing, ...]
    kinds: tuple[str, ...]
    image: Path | None = None
    crowds: frozenset[str] = frozenset()
    captions: tuple[str, ...] = ()
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many objects there are of each class that can be counted here."""
        kinds = [thing.kind for thing in self.things if thing.kind and thing.kind not in self.crowds]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}

    @property
    def told(self) -> str:
        """Everything that annotators said in sentences."""
        return " ".join([*self.captions, *(text for texts in self.descriptions.values() for text in texts)])

    @property
    def absent(self) -> list[str]:
        """The classes of which there is certainly nothing: neither a box, nor a crowd, nor a word tells of one."""
        present = {thing.kind for thing in self.things} | self.crowds | mentioned(self.told, self.kinds)
        return [kind for kind in self.kinds if kind not in present]


def read_pictures(root: Path, split: str, captions: bool, bad: BadPolicy = "error") -> list[Annotation]:
    """The pictures of a COCO split that have an object.

    Args:
        root: the folder of COCO.
        split: for example `train2017`.
        captions: whether captions are needed; otherwise they are read where their file is there.
        bad: `error` stops at the first bad item, `skip` leaves bad ones out and warns.

    Raises:
        ValueError: a file is missing or broken.
    """
    pictures = coco.read_detection(root, split, bad)
    crowds = coco.read_crowds(root, split)
    told: dict[str, tuple[str, ...]] = {}
    if captions or (root / "annotations" / f"captions_{split}.json").is_file():
        told = {sample.id: _texts(sample) for sample in coco.read_captioning(root, split, bad)}
    kinds = tuple(sorted({one.label for sample in pictures for one in _boxes(sample).objects}))
    return [
        Annotation(
            sample.id,
            tuple(
                Thing(str(place), one.label, one.label, one.box)
                for place, one in enumerate(box for box in _boxes(sample).objects if not box.ignored)
            ),
            kinds,
            sample.media["image"].path,
            crowds.get(sample.id, frozenset()),
            told.get(sample.id, ()),
        )
        for sample in pictures
    ]


def read_scans(root: Path, split: str, bad: BadPolicy = "error") -> list[Annotation]:
    """The scans of a ScanNet split with their objects, and with ScanRefer's sentences where its file is there.

    Objects are counted in the classes of the detection benchmark, since raw categories (`chair`, `office chair`)
    overlap.

    Raises:
        ValueError: a file is missing or broken.
    """
    numbers = scannet.nyu40_ids(root)
    names = {number: name for number, name in DETECTION_CLASSES.items() if number != OTHER_FURNITURE}
    told: dict[str, dict[str, tuple[str, ...]]] = {}
    file = f"ScanRefer_filtered_{split}.json"
    if any((root / place / file).is_file() for place in ("", "ScanRefer")):
        for sample in scanrefer.read_captioning(root, split, bad):
            region = sample.media["cloud"].region
            assert region is not None
            told.setdefault(_gold(sample).scene, {})[region.object] = _texts(sample)
    return [
        Annotation(
            scan.name,
            tuple(
                Thing(one.id, one.label, names.get(numbers[one.label], ""), one.box)
                for one in scan.objects.values()
            ),
            tuple(names.values()),
            descriptions=told.get(scan.name, {}),
        )
        for scan in scannet.read_scenes(root, split, bad)
        if scan.objects
    ]


def _boxes(sample: Sample) -> Boxes:
    assert isinstance(sample.gold, Boxes)
    return sample.gold


def _gold(sample: Sample) -> References:
    assert isinstance(sample.gold, References)
    return sample.gold


def _texts(sample: Sample) -> tuple[str, ...]:
    return _gold(sample).texts
