"""ScanRefer's descriptions of objects in ScanNet's scans come in; captions of one or of all objects go out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.benchmarks import scans
from datamodules.benchmarks.base import BadItems, BadPolicy, load_json, need, take_text
from datamodules.benchmarks.scans import Scan, Scans, object_id
from octavius.instruction.sample import DescribedObject, DescribedObjects, References, Sample

LAYOUT = f"""\
  <root>/ScanRefer_filtered_<split>.json       or in <root>/ScanRefer
{scans.LAYOUT}"""


@dataclass(frozen=True)
class _Described:
    """One object of a scan and all its descriptions, in the order of the file."""

    scan: Scan
    object: str
    texts: tuple[str, ...]


def read_captioning(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample for every described object, with all its descriptions as references: Scan2Cap's data.

    The box is the true one, so scores are those of captions given the object, not of finding it.
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
    """One sample for every scan, with the boxes and descriptions of all its described objects."""
    rooms: dict[str, list[_Described]] = {}
    for found in _described(root, split, bad):
        rooms.setdefault(found.scan.name, []).append(found)
    samples = []
    for name, things in rooms.items():
        objects = [DescribedObject(item.scan.object(item.object).box, item.texts) for item in things]
        media, gold = {"cloud": things[0].scan.cloud}, DescribedObjects(tuple(objects))
        samples.append(Sample(name, "dense_captioning3d", "scanrefer_dense_captioning", media, "", gold))
    return samples


def annotations(root: Path, split: str) -> Path:
    """The file of a split's descriptions."""
    name = f"ScanRefer_filtered_{split}.json"
    return need(root, LAYOUT, name, f"ScanRefer/{name}")


def _described(root: Path, split: str, bad: BadPolicy) -> Iterator[_Described]:
    """The described objects, in the order of their first descriptions."""
    file = annotations(root, split)
    folders, items = Scans(root, LAYOUT), BadItems(bad, file)
    texts: dict[tuple[str, str], list[str]] = {}
    found: dict[str, Scan] = {}
    for place, record in enumerate(load_json(file, list)):
        with items.guard(f"item {place}"):
            scan = folders.scan(take_text(record, "scene_id"))
            key = object_id(record, "object_id")
            scan.object(key)
            description = take_text(record, "description")
            found[scan.name] = scan
            texts.setdefault((scan.name, key), []).append(description)
    items.report()
    for (scan_name, key), descriptions in texts.items():
        yield _Described(found[scan_name], key, tuple(descriptions))
