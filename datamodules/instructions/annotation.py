"""Annotations of COCO images and ScanNet scans in one form, from which instruction data are generated."""

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
"""NYU40 id that the detection benchmark calls "garbage bin", although it also holds many other kinds of objects."""


@dataclass(frozen=True)
class Thing:
    """One annotated object.

    Attributes:
        id: its number, unique in its image or scan; in scans the `objectId` that all annotations use.
        label: its name in the annotation, with spaces for underscores.
        kind: the class in which it is counted; empty if it belongs to none that is annotated exhaustively.
        box: in an image its edges (x1, y1, x2, y2) as fractions, in a scan its centre and size in metres,
            aligned.
    """

    id: str
    label: str
    kind: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class Annotation:
    """Everything annotated about one image or scan.

    Attributes:
        name: id of the image, or name of the scan.
        things: its objects.
        kinds: classes annotated exhaustively: if none of its objects is listed, a class is absent.
        image: path of the image; None for a scan.
        crowds: classes with more objects than `things` lists.
        captions: sentences about the whole image or scan.
        descriptions: sentences about single objects, by object id.
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
        """Number of objects per class, for the classes that can be counted here."""
        kinds = [thing.kind for thing in self.things if thing.kind and thing.kind not in self.crowds]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}

    @property
    def sentences(self) -> str:
        """All sentences, joined."""
        return " ".join([*self.captions, *(text for texts in self.descriptions.values() for text in texts)])

    @property
    def absent(self) -> list[str]:
        """Classes in `kinds` that are absent: they have no box and no crowd, and no sentence mentions them."""
        present = {thing.kind for thing in self.things} | self.crowds | mentioned(self.sentences, self.kinds)
        return [kind for kind in self.kinds if kind not in present]


def read_images(root: Path, split: str, captions: bool, bad: BadPolicy = "error") -> list[Annotation]:
    """The images of a COCO split that have an object.

    Args:
        root: folder of COCO.
        split: such as `train2017`.
        captions: whether captions are required; otherwise they are read if their file exists.
        bad: `error` stops at the first bad item, `skip` leaves bad items out and warns.

    Raises:
        ValueError: a file is missing or malformed.
    """
    samples = coco.read_detection(root, split, bad)
    crowds = coco.read_crowds(root, split)
    sentences: dict[str, tuple[str, ...]] = {}
    if captions or (root / "annotations" / f"captions_{split}.json").is_file():
        sentences = {sample.id: _texts(sample) for sample in coco.read_captioning(root, split, bad)}
    kinds = tuple(sorted({one.label for sample in samples for one in _boxes(sample).objects}))
    return [
        Annotation(
            sample.id,
            tuple(
                Thing(str(index), one.label, one.label, one.box)
                for index, one in enumerate(box for box in _boxes(sample).objects if not box.ignored)
            ),
            kinds,
            sample.media["image"].path,
            crowds.get(sample.id, frozenset()),
            sentences.get(sample.id, ()),
        )
        for sample in samples
    ]


def read_scans(root: Path, split: str, bad: BadPolicy = "error") -> list[Annotation]:
    """The scans of a ScanNet split with their objects, and with ScanRefer's sentences if that file exists.

    Objects are counted by class of the detection benchmark, since raw categories overlap (`chair`, `office
    chair`).

    Raises:
        ValueError: a file is missing or malformed.
    """
    numbers = scannet.nyu40_ids(root)
    names = {number: name for number, name in DETECTION_CLASSES.items() if number != OTHER_FURNITURE}
    sentences: dict[str, dict[str, tuple[str, ...]]] = {}
    file = f"ScanRefer_filtered_{split}.json"
    if any((root / folder / file).is_file() for folder in ("", "ScanRefer")):
        for sample in scanrefer.read_captioning(root, split, bad):
            region = sample.media["cloud"].region
            assert region is not None
            sentences.setdefault(_gold(sample).scene, {})[region.object] = _texts(sample)
    return [
        Annotation(
            scan.name,
            tuple(
                Thing(one.id, one.label, names.get(numbers[one.label], ""), one.box)
                for one in scan.objects.values()
            ),
            tuple(names.values()),
            descriptions=sentences.get(scan.name, {}),
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
