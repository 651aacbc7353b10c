"""Objects of a split's scans become samples to be named; walls, floors and repeats are left out."""

import json
from pathlib import Path

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.scannet import (
    DETECTION_CLASSES,
    nyu40_ids,
    read_classification,
    read_scenes,
)
from octavius.instruction.sample import ClassName, Media, Region, Sample
from tests.datamodules.benchmarks.bad_items import kept
from tests.datamodules.benchmarks.scan_files import (
    AGGREGATION,
    CHAIR,
    FLOOR,
    MESH,
    NAME,
    TABLE,
    Thing,
    edit,
    ply,
    write_labels,
    write_scan,
)

OFFICE_CHAIR = Thing("office_chair", (0.0, 0.0, 0.0), (0.5, 0.5, 1.0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two scans of the split train, one of val."""
    write_labels(tmp_path)
    write_scan(tmp_path)
    write_scan(tmp_path, [OFFICE_CHAIR], "scene0001_00")
    write_scan(tmp_path, [CHAIR], "scene0002_00")
    (tmp_path / "scannetv2_train.txt").write_text(f"{NAME}\nscene0001_00\n")
    (tmp_path / "meta_data").mkdir()
    (tmp_path / "meta_data" / "scannetv2_val.txt").write_text("scene0002_00\n")
    return tmp_path


def spoil(root: Path, **changes: object) -> None:
    """Changes the table in the first scan."""
    file = root / "scans" / NAME / AGGREGATION.format(NAME)
    groups = json.loads(file.read_text())["segGroups"]
    groups[1] |= changes
    edit(file, segGroups=groups)


def test_objects_become_samples(root: Path) -> None:
    names = ("chair", "coffee table", "office chair")
    mesh = root / "scans" / NAME / MESH.format(NAME)
    samples = read_classification(root, "train")
    assert [sample.id for sample in samples] == [f"{NAME}-1", f"{NAME}-2", "scene0001_00-0"]
    box = (0.5, 0.25, 0.25, 1.0, 0.5, 0.5)
    assert samples[0] == Sample(
        f"{NAME}-1",
        "classification3d",
        "scannet_classification",
        {"cloud": Media(path=mesh, region=Region("1", box))},
        "",
        ClassName("coffee table", names),
    )
    assert [sample.gold for sample in samples[1:]] == [
        ClassName(name, names) for name in ("chair", "office chair")
    ]
    [other] = read_classification(root, "val")
    assert other.gold == ClassName("chair", ("chair",))


def test_scenes_for_a_detector(root: Path) -> None:
    scenes, numbers = read_scenes(root, "train"), nyu40_ids(root)
    found = {
        scene.name: [(one.label, DETECTION_CLASSES[numbers[one.label]]) for one in scene.objects.values()]
        for scene in scenes
    }
    assert found == {
        NAME: [("coffee table", "table"), ("chair", "chair")],
        "scene0001_00": [("office chair", "chair")],
    }
    assert scenes[0].objects["1"].box == pytest.approx(TABLE.box)


def test_repeated_objects_count_once(root: Path) -> None:
    file = root / "scans" / NAME / AGGREGATION.format(NAME)
    groups = json.loads(file.read_text())["segGroups"]
    edit(file, segGroups=[*groups, *({**group, "objectId": 10 + group["objectId"]} for group in groups)])
    assert [sample.id for sample in read_classification(root, "train")][:2] == [f"{NAME}-1", f"{NAME}-2"]
    assert len(read_classification(root, "train")) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label": "spaceship"},
            rf"{NAME}, object 1: its label 'spaceship' is not a raw category of scannetv2-labels",
        ),
        ({"segments": [55]}, f"object 1: object 1 of {NAME} has segments without vertices"),
    ],
)
def test_a_bad_object_takes_only_itself_along(root: Path, changes: dict[str, object], message: str) -> None:
    spoil(root, **changes)
    samples = kept(
        read_classification, root, "train", message + r".*Correct it, or leave such items out with bad=skip"
    )
    assert [sample.id for sample in samples] == [f"{NAME}-2", "scene0001_00-0"]
    assert samples[0].gold == ClassName("chair", ("chair", "office chair"))


def test_a_broken_scan_takes_only_itself_along(root: Path) -> None:
    (root / "scans" / NAME / MESH.format(NAME)).write_bytes(ply([(0, 0, 0)]))
    with pytest.raises(
        ValueError, match=rf"the scan {NAME}: the scan {NAME} cannot be used: .*a single point"
    ):
        read_scenes(root, "train")
    with pytest.warns(UserWarning, match="1 bad item left out of .*; the first: .*a single point"):
        assert [scene.name for scene in read_scenes(root, "train", bad="skip")] == ["scene0001_00"]


def test_a_scan_without_things_gives_no_sample(tmp_path: Path) -> None:
    write_labels(tmp_path)
    write_scan(tmp_path, [FLOOR])
    (tmp_path / "scannetv2_train.txt").write_text(NAME)
    assert read_classification(tmp_path, "train") == []
    assert [scene.objects for scene in read_scenes(tmp_path, "train")] == [{}]


@pytest.mark.parametrize("file", ["scannetv2_train.txt", "scannetv2-labels.combined.tsv"])
def test_missing_files_are_named(root: Path, file: str) -> None:
    (root / file).unlink()
    with pytest.raises(DatasetNotFoundError, match=f"{file} and meta_data/{file} not found"):
        read_scenes(root, "train")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id\traw_category\n1\tchair\n", r"expected the columns nyu40id, found \['id', 'raw_category'\]"),
        ("raw_category\tnyu40id\nchair\tfive\n", "line 2: nyu40id should be a whole number, found 'five'"),
        ("raw_category\tnyu40id\nchair\n", "line 2: nyu40id should be a whole number, found ''"),
        ("", "expected the columns raw_category, nyu40id, found None"),
    ],
)
def test_bad_tables_of_labels(root: Path, table: str, message: str) -> None:
    (root / "scannetv2-labels.combined.tsv").write_text(table)
    with pytest.raises(ValueError, match=message):
        nyu40_ids(root)


def test_detection_has_eighteen_classes() -> None:
    assert len(DETECTION_CLASSES) == len(set(DETECTION_CLASSES.values())) == 18
