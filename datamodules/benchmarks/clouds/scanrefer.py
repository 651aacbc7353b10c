"""ScanRefer's descriptions of objects in ScanNet: captions of one object, of all objects, or of detected boxes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.benchmarks.answers import Asked, Submission
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.clouds import scans
from datamodules.benchmarks.clouds.scans import Scan, Scans, object_id
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import shown, take_text
from octavius.instruction.sample import (
    DescribedObject,
    DescribedObjects,
    FoundObject,
    References,
    Region,
    Sample,
)
from octavius.media.proposals import find_proposals, read_proposals

LAYOUT = f"""\
  <root>/ScanRefer_filtered_<split>.json       or in <root>/ScanRefer
{scans.LAYOUT}"""


@dataclass(frozen=True)
class _Described:
    """An object of a scan with all its descriptions, in the order of the file."""

    scan: Scan
    object: str
    texts: tuple[str, ...]


def read_captioning(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per described object, with all its descriptions as references (Scan2Cap's data).

    The ground-truth box is given: scores measure the caption, not the localization.
    """
    return [
        Sample(
            f"{found.scan.name}-{found.object}",
            "captioning3d",
            "scanrefer_captioning",
            {"cloud": found.scan.region(found.object)},
            "",
            References(found.texts, found.scan.name),
        )
        for found in _described(root, split, bad)
    ]


def read_dense_captioning(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per scan, with the boxes and descriptions of all its described objects."""
    rooms: dict[str, list[_Described]] = {}
    for found in _described(root, split, bad):
        rooms.setdefault(found.scan.name, []).append(found)
    samples = []
    for name, things in rooms.items():
        objects = [DescribedObject(item.scan.object(item.object).box, item.texts) for item in things]
        media, gold = {"cloud": things[0].scan.cloud}, DescribedObjects(tuple(objects))
        samples.append(Sample(name, "dense_captioning3d", "scanrefer_dense_captioning", media, "", gold))
    return samples


def read_captions(path: Path, asked: Asked) -> Submission:  # noqa: ARG001
    """Scan2Cap's `{"<scan>|<object id>|<name>": ["sos .. eos"], ..}` for ground-truth boxes."""
    found = Submission()
    for key, said in load_json(path, dict).items():
        scan, *rest = key.split("|")
        if len(rest) not in (1, 2):
            raise BadItemError(
                f"the key {shown(key)} should be <scan>|<object id>|<name>, with one caption for each ground-truth "
                "box (captions of detected boxes, by scan, are not scored here)"
            )
        if not isinstance(said, list) or len(said) != 1 or not isinstance(said[0], str):
            raise BadItemError(f"{shown(key)} should have a list of one caption, found {shown(said)}")
        found.add(f"{scan}-{rest[0]}", re.sub(r"^sos\b|\beos$", "", said[0].strip()).strip())
    return found


def annotations(root: Path, split: str) -> Path:
    """The file of a split's descriptions."""
    name = f"ScanRefer_filtered_{split}.json"
    return need(root, LAYOUT, name, f"ScanRefer/{name}")


def read_found_captioning(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per detected box in a scan with described objects, for Scan2Cap's metrics m@kIoU.

    The boxes are read from <root>/proposals, one file per scan (see `octavius.media.proposals`). Scores are computed
    over whole scans, so do not set a `limit` on such a source.
    """
    samples = []
    items = BadItems(bad, root / "proposals")
    for room in read_dense_captioning(root, split, bad):
        with items.guard(room.id):
            assert isinstance(room.gold, DescribedObjects)
            boxes, _ = _proposals(root / "proposals", room.id)
            cloud = replace(room.media["cloud"], objects=None)
            for index, box in enumerate(boxes.tolist()):
                found = tuple(box)
                media = {"cloud": replace(cloud, region=Region(f"found {index}", found))}
                gold = FoundObject(room.id, found, room.gold.objects)
                name = "scanrefer_found_captioning"
                samples.append(Sample(f"{room.id}-found{index}", "found_captioning3d", name, media, "", gold))
    items.report()
    return samples


def _proposals(folder: Path, scan: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (M, 6) detected in a scan and their scores (M,), M > 0: a scan without samples would not be scored."""
    try:
        boxes, scores = read_proposals(find_proposals(folder, [scan]))
    except ValueError as error:
        raise BadItemError(str(error)) from None
    if not len(boxes):
        raise BadItemError(
            f"no box was detected in {scan}, so the scan would be left out of the scores; add a box of low confidence"
        )
    return boxes, scores


def _described(root: Path, split: str, bad: BadPolicy) -> Iterator[_Described]:
    """The described objects, in the order of their first descriptions."""
    file = annotations(root, split)
    folders, items = Scans(root, LAYOUT), BadItems(bad, file)
    texts: dict[tuple[str, str], list[str]] = {}
    found: dict[str, Scan] = {}
    for index, record in enumerate(load_json(file, list)):
        with items.guard(f"item {index}"):
            scan = folders.scan(take_text(record, "scene_id"))
            key = object_id(record, "object_id")
            scan.object(key)
            description = take_text(record, "description")
            found[scan.name] = scan
            texts.setdefault((scan.name, key), []).append(description)
    items.report()
    for (scan_name, key), descriptions in texts.items():
        yield _Described(found[scan_name], key, tuple(descriptions))
