"""ScanRefer's descriptions become captions of one object, or of all objects of a scan."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.scanrefer import (
    read_captioning,
    read_dense_captioning,
    read_found_captioning,
)
from octavius.instruction.sample import (
    DescribedObject,
    DescribedObjects,
    FoundObject,
    Media,
    References,
    Region,
    Sample,
)
from tests.datamodules.benchmarks.bad_items import kept
from tests.datamodules.benchmarks.scan_files import CHAIR, MESH, NAME, SEGMENTS, TABLE, edit, write_scan

OTHER = "scene0001_00"
TABLE_BOX, CHAIR_BOX = (0.5, 0.25, 0.25, 1.0, 0.5, 0.5), (2.25, 1.25, 0.5, 0.5, 0.5, 1.0)


def record(scene: str, number: object, text: str, **changes: Any) -> dict[str, Any]:
    """One entry, with the keys of the official file."""
    usual = {"scene_id": scene, "object_id": number, "object_name": "coffee_table", "ann_id": "0"}
    return {**usual, "description": text, "token": text.split(), **changes}


def write(root: Path, *records: Any, name: str = "ScanRefer_filtered_train.json") -> Path:
    if not (root / "scans").is_dir():
        write_scan(root)
        write_scan(root, [CHAIR], OTHER)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(list(records)))
    return root


RECORDS = (
    record(NAME, "1", "a low table. "),
    record(OTHER, "0", "the only chair"),
    record(NAME, "2", "a chair behind the table"),
    record(NAME, "1", "the table before the chair", ann_id="1"),
)


@pytest.mark.parametrize("folder", [".", "ScanRefer"])
def test_descriptions_of_an_object_are_its_references(tmp_path: Path, folder: str) -> None:
    samples = read_captioning(
        write(tmp_path, *RECORDS, name=f"{folder}/ScanRefer_filtered_train.json"), "train"
    )
    assert [sample.id for sample in samples] == [f"{NAME}-1", f"{OTHER}-0", f"{NAME}-2"]
    mesh = tmp_path / "scans" / NAME / MESH.format(NAME)
    assert samples[0] == Sample(
        f"{NAME}-1",
        "captioning3d",
        "scanrefer_captioning",
        {"cloud": Media(path=mesh, region=Region("1", TABLE_BOX))},
        "",
        References(("a low table.", "the table before the chair"), NAME),
    )


def test_all_descriptions_of_a_scan(tmp_path: Path) -> None:
    samples = read_dense_captioning(write(tmp_path, *RECORDS), "train")
    assert [sample.id for sample in samples] == [NAME, OTHER]
    things = (
        DescribedObject(TABLE_BOX, ("a low table.", "the table before the chair")),
        DescribedObject(CHAIR_BOX, ("a chair behind the table",)),
    )
    assert samples[0] == Sample(
        NAME,
        "dense_captioning3d",
        "scanrefer_dense_captioning",
        {"cloud": Media(path=tmp_path / "scans" / NAME / MESH.format(NAME), objects=(TABLE_BOX, CHAIR_BOX))},
        "",
        DescribedObjects(things),
    )
    assert (TABLE.box, CHAIR.box) == (TABLE_BOX, CHAIR_BOX)


FOUND = (0.5, 0.3, 0.25, 1.0, 0.5, 0.5)


def propose(root: Path, scan: str, *boxes: Any) -> None:
    (root / "proposals").mkdir(exist_ok=True)
    (root / "proposals" / f"{scan}.json").write_text(json.dumps({"boxes": boxes}))


def test_every_found_box_of_a_scan_is_captioned(tmp_path: Path) -> None:
    write(tmp_path, *RECORDS)
    propose(tmp_path, NAME, FOUND, CHAIR_BOX)
    propose(tmp_path, OTHER, CHAIR_BOX)
    samples = read_found_captioning(tmp_path, "train")
    assert [sample.id for sample in samples] == [f"{NAME}-found0", f"{NAME}-found1", f"{OTHER}-found0"]
    things = (
        DescribedObject(TABLE_BOX, ("a low table.", "the table before the chair")),
        DescribedObject(CHAIR_BOX, ("a chair behind the table",)),
    )
    assert samples[0] == Sample(
        f"{NAME}-found0",
        "found_captioning3d",
        "scanrefer_found_captioning",
        {"cloud": Media(path=tmp_path / "scans" / NAME / MESH.format(NAME), region=Region("found 0", FOUND))},
        "",
        FoundObject(NAME, FOUND, things),
    )


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (None, f"no proposals in .*expected one of {NAME}.npz"),
        ([], f"no box was detected in {NAME}, so the scan would be left out of the scores"),
        ([[1, 2, 3]], r"expected boxes \(K, 6\)"),
    ],
)
def test_a_scan_without_found_boxes_is_told(tmp_path: Path, boxes: Any, message: str) -> None:
    write(tmp_path, *RECORDS)
    propose(tmp_path, OTHER, CHAIR_BOX)
    if boxes is not None:
        propose(tmp_path, NAME, *boxes)
    with pytest.raises(ValueError, match=message):
        read_found_captioning(tmp_path, "train")
    with pytest.warns(UserWarning, match="1 bad item"):
        [sample] = read_found_captioning(tmp_path, "train", bad="skip")
    assert sample.id == f"{OTHER}-found0"


BAD: dict[str, tuple[Any, str]] = {
    "another kind": ("text", r"expected an object with the key 'scene_id', found 'text'"),
    "no description": ({"scene_id": NAME, "object_id": "1"}, "the key 'description' is missing"),
    "empty description": (record(NAME, "1", "  "), "'description' is empty"),
    "unknown object": (record(NAME, "7", "a bed"), f"{NAME} has no object '7'; it has 0, 1, 2"),
    "hidden object": (record(NAME, "", "a bed"), "'object_id' should be the number of an object, found ''"),
    "unknown scan": (
        record("scene0009_00", "1", "a bed"),
        "the folder .*scene0009_00, which should hold .* cannot be",
    ),
    "escape": (record("../scans", "1", "a bed"), r"leads out of the data folder"),
}


@pytest.mark.parametrize("read", [read_captioning, read_dense_captioning])
@pytest.mark.parametrize("case", BAD)
def test_bad_entries(tmp_path: Path, case: str, read: Any) -> None:
    bad, message = BAD[case]
    write(tmp_path, bad, RECORDS[1])
    [sample] = kept(read, tmp_path, "train", r"ScanRefer_filtered_train\.json, item 0: .*" + message)
    assert sample.id.startswith(OTHER)


def test_every_description_of_a_broken_scan_is_counted(tmp_path: Path) -> None:
    write(tmp_path, *RECORDS)
    edit(tmp_path / "scans" / NAME / SEGMENTS.format(NAME), segIndices=[1, 2])
    with pytest.raises(
        ValueError, match=r"item 0: the scan scene0000_00 cannot .* of 2 vertices, .* has 25; .*bad=skip"
    ):
        read_captioning(tmp_path, "train")
    with pytest.warns(UserWarning, match="3 bad items left out"):
        [sample] = read_captioning(tmp_path, "train", bad="skip")
    assert sample.id == f"{OTHER}-0"


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, *RECORDS)
    with pytest.raises(
        DatasetNotFoundError, match=r"ScanRefer_filtered_dev\.json and ScanRefer/Scan"
    ) as caught:
        read_captioning(tmp_path, "dev")
    assert "<root>/scans/<scan>/<scan>_vh_clean_2.ply" in str(caught.value)
