"""ScanNet's scans, objects and label table: samples of object classification, and scans to train detectors on."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from datamodules.benchmarks.base import DAMAGED, BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.clouds import scans
from datamodules.benchmarks.clouds.scans import Scan, ScanObject, Scans
from datamodules.benchmarks.documents import read_lines
from datamodules.benchmarks.values import plain_label, shown
from octavius.instruction.sample import ClassName, Sample

LAYOUT = f"""\
  <root>/scannetv2_<split>.txt                names of the scans, one per line; or in <root>/meta_data
  <root>/scannetv2-labels.combined.tsv        raw categories and their NYU40 classes; or in <root>/meta_data
{scans.LAYOUT}"""

LABELS = "scannetv2-labels.combined.tsv"

STRUCTURE = (1, 2, 22)
"""NYU40 ids of wall, floor and ceiling, which do not count as objects."""

DETECTION_CLASSES = {
    3: "cabinet",
    4: "bed",
    5: "chair",
    6: "sofa",
    7: "table",
    8: "door",
    9: "window",
    10: "bookshelf",
    11: "picture",
    12: "counter",
    14: "desk",
    16: "curtain",
    24: "refrigerator",
    28: "shower curtain",
    33: "toilet",
    34: "sink",
    36: "bathtub",
    39: "garbage bin",
}
"""NYU40 ids and names of the classes of the detection benchmark; its garbage bin is NYU40's "otherfurniture"."""


def read_classification(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per object of the split's scans, without walls, floors and ceilings.

    Names are the raw categories ("coffee table", "office chair"), as in the published data; the candidates
    are all that occur in the split.
    """
    found = read_scenes(root, split, bad)
    names = tuple(sorted({one.label for scan in found for one in scan.objects.values()}))
    return [
        Sample(
            f"{scan.name}-{one.id}",
            "classification3d",
            "scannet_classification",
            {"cloud": scan.region(one.id)},
            "",
            ClassName(one.label, names),
        )
        for scan in found
        for one in scan.objects.values()
    ]


def read_scenes(root: Path, split: str, bad: BadPolicy = "error") -> list[Scan]:
    """The scans of a split with their objects, to train a detector on.

    Walls, floors, ceilings and duplicate objects are left out. `nyu40_ids` and `DETECTION_CLASSES` map an
    object's label to its class.
    """
    numbers = nyu40_ids(root)
    names, items = scan_names(root, split), BadItems(bad, root)
    folders = Scans(root, LAYOUT)
    found = []
    for name in names:
        with items.guard(f"the scan {name}"):
            scan = folders.scan(name)
            for key in scan.broken:
                with items.guard(f"object {key}"):
                    scan.object(key)
            things = dict[str, ScanObject]()
            for one in scan.distinct():
                with items.guard(f"{name}, object {one.id}"):
                    if one.label not in numbers:
                        raise BadItemError(f"its label {shown(one.label)} is not a raw category of {LABELS}")
                    if numbers[one.label] not in STRUCTURE:
                        things[one.id] = one
            found.append(replace(scan, objects=things))
    items.report()
    return found


def scan_names(root: Path, split: str) -> list[str]:
    """Names of a split's scans, such as `scene0000_00`.

    Raises:
        DatasetNotFoundError: the list of the split is missing.
    """
    file = need(root, LAYOUT, f"scannetv2_{split}.txt", f"meta_data/scannetv2_{split}.txt")
    return [line for _, line in read_lines(file)]


def nyu40_ids(root: Path) -> dict[str, int]:
    """NYU40 id of each raw category, from the label table.

    Raises:
        DatasetNotFoundError: the table is missing.
        ValueError: the table is malformed.
    """
    ids = {}
    for number, row in _label_rows(root, "raw_category", "nyu40id"):
        if not row["nyu40id"].strip().isdecimal() or len(row["nyu40id"]) > 9:
            raise ValueError(
                f"{LABELS} line {number}: nyu40id should be a whole number, found {shown(row['nyu40id'])}; "
                "copy the official file again"
            )
        ids[plain_label(row["raw_category"])] = int(row["nyu40id"])
    return ids


def _label_rows(root: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    file = need(root, LAYOUT, LABELS, f"meta_data/{LABELS}")
    lines = [line for _, line in read_lines(file)]
    table = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
    try:
        missing = [column for column in columns if column not in (table.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{file}: expected the columns {', '.join(missing)}, found {shown(table.fieldnames)}"
            )
        yield from enumerate(table, start=2)
    except csv.Error as error:
        raise ValueError(f"{file} is not a table: {error}. {DAMAGED}") from None
