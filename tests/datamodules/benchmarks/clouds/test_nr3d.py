"""Nr3D's table becomes captions of the objects of one split's scans."""

import csv
from pathlib import Path

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.nr3d import read
from octavius.instruction.sample import Media, References, Region, Sample
from tests.datamodules.benchmarks.bad_items import kept
from tests.datamodules.benchmarks.scan_files import CHAIR, MESH, NAME, write_scan

OTHER = "scene0001_00"
COLUMNS = (
    "assignmentid",
    "stimulus_id",
    "utterance",
    "instance_type",
    "scan_id",
    "tokens",
    "dataset",
    "target_id",
)
Row = tuple[str, ...]


def row(scan: str, target: str, utterance: str) -> Row:
    return (
        "7",
        f"{scan}-chair-2-{target}-5",
        utterance,
        "chair",
        scan,
        f"['{utterance[:3]}']",
        "nr3d",
        target,
    )


def write(root: Path, *rows: Row, columns: Row = COLUMNS, name: str = "nr3d.csv") -> Path:
    write_scan(root)
    write_scan(root, [CHAIR], OTHER)
    (root / "scannetv2_train.txt").write_text(f"{NAME}\n")
    (root / "scannetv2_val.txt").write_text(f"{OTHER}\n")
    (root / name).parent.mkdir(exist_ok=True)
    with (root / name).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return root


ROWS = (
    row(NAME, "2", 'the "red" chair, by the\ntable '),
    row(OTHER, "0", "the chair"),
    row(NAME, "1", "the table"),
    row(NAME, "2", "chair"),
)


@pytest.mark.parametrize("folder", [".", "ReferIt3D"])
def test_utterances_about_an_object_are_its_references(tmp_path: Path, folder: str) -> None:
    write(tmp_path, *ROWS, name=f"{folder}/nr3d.csv")
    samples = read(tmp_path, "train")
    assert [sample.id for sample in samples] == [f"{NAME}-2", f"{NAME}-1"]
    mesh = tmp_path / "scans" / NAME / MESH.format(NAME)
    assert samples[0] == Sample(
        f"{NAME}-2",
        "captioning3d",
        "nr3d_captioning",
        {"cloud": Media(path=mesh, region=Region("2", (2.25, 1.25, 0.5, 0.5, 0.5, 1.0)))},
        "",
        References(('the "red" chair, by the\ntable', "chair"), NAME),
    )
    [other] = read(tmp_path, "val")
    assert other.gold == References(("the chair",), OTHER)


BAD = {
    "unknown object": (row(NAME, "9", "a bed"), f"{NAME} has no object '9'"),
    "no object": (row(NAME, "", "a bed"), "'target_id' should be the number of an object, found ''"),
    "empty": (row(NAME, "1", " "), "'utterance' is empty"),
    "short": (row(NAME, "1", "a bed")[:6], "it has another number of columns than the header"),
    "too short to say its scan": (("7", "s"), "it has another number of columns"),
    "long": ((*row(NAME, "1", "a bed"), "more"), "it has another number of columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows(tmp_path: Path, case: str) -> None:
    bad, message = BAD[case]
    write(tmp_path, bad, ROWS[2])
    [sample] = kept(read, tmp_path, "train", r"nr3d\.csv, line 2: .*" + message)
    assert sample.id == f"{NAME}-1"


def test_tables_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, columns=COLUMNS[:-1])
    with pytest.raises(
        ValueError, match=r"nr3d\.csv: expected the columns target_id, found \['assignmentid'"
    ):
        read(tmp_path, "train")
    (tmp_path / "nr3d.csv").write_bytes(b"scan_id,target_id,utterance\n\xff")
    with pytest.raises(ValueError, match=r"nr3d\.csv is not text in UTF-8 at byte"):
        read(tmp_path, "train")
    (tmp_path / "nr3d.csv").write_text(f'scan_id,target_id,utterance\n{NAME},1,"{"long " * 50_000}')
    with pytest.raises(ValueError, match=r"nr3d\.csv is not a table in CSV at line 2: field larger than"):
        read(tmp_path, "train")


@pytest.mark.parametrize("missing", ["nr3d.csv", "scannetv2_train.txt"])
def test_missing_files_are_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, *ROWS)
    (tmp_path / missing).unlink()
    with pytest.raises(DatasetNotFoundError, match=missing):
        read(tmp_path, "train")
