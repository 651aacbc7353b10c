"""Nr3D's utterances about objects in ScanNet's scans, as captions of one object."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.clouds import scans
from datamodules.benchmarks.clouds.scannet import scan_names
from datamodules.benchmarks.clouds.scans import Scan, Scans, object_id
from datamodules.benchmarks.documents import read_table
from datamodules.benchmarks.values import take_text
from octavius.instruction.sample import References, Sample

LAYOUT = f"""\
  <root>/nr3d.csv                              or <root>/ReferIt3D/nr3d.csv
  <root>/scannetv2_<split>.txt                 ScanNet's split, which is Nr3D's too; or in <root>/meta_data
{scans.LAYOUT}"""

COLUMNS = ("scan_id", "target_id", "utterance")


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per object mentioned in the split's scans, with all utterances as references.

    The CSV file holds all splits; rows about scans of other splits are skipped. All utterances are used, also those
    that call the object by another name or with which the listener chose a wrong object: they are valid captions.
    """
    file = annotations(root)
    wanted = set(scan_names(root, split))
    folders, items = Scans(root, LAYOUT), BadItems(bad, file)
    texts: dict[tuple[str, str], list[str]] = {}
    found: dict[str, Scan] = {}
    for line, row in rows(file):
        if row["scan_id"] is not None and row["scan_id"].strip() not in wanted:
            continue
        with items.guard(f"line {line}"):
            if None in row.values() or None in row:
                raise BadItemError("it has another number of columns than the header")
            scan, key = folders.scan(take_text(row, "scan_id")), object_id(row, "target_id")
            scan.object(key)
            utterance = take_text(row, "utterance")
            found[scan.name] = scan
            texts.setdefault((scan.name, key), []).append(utterance)
    items.report()
    return [
        Sample(
            f"{name}-{key}",
            "captioning3d",
            "nr3d_captioning",
            {"cloud": found[name].region(key)},
            "",
            References(tuple(said), name),
        )
        for (name, key), said in texts.items()
    ]


def annotations(root: Path) -> Path:
    """The CSV file with the utterances of all splits."""
    return need(root, LAYOUT, "nr3d.csv", "ReferIt3D/nr3d.csv")


def rows(file: Path) -> Iterator[tuple[int, dict[str | None, Any]]]:
    """The rows of the file, each with the number of its last line."""
    return read_table(file, COLUMNS)
