"""Objects of a scan get the aligned boxes of their vertices; missing, broken and mismatched files are reported."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.benchmarks.base import BadItemError, DatasetNotFoundError
from datamodules.benchmarks.clouds.scans import LAYOUT, Scan, Scans, object_id
from octavius.instruction.sample import Region
from octavius.media.clouds import CloudLoader
from tests.datamodules.benchmarks.scan_files import (
    AGGREGATION,
    CHAIR,
    FLOOR,
    INFO,
    MESH,
    NAME,
    SEGMENTS,
    TABLE,
    Thing,
    alignment,
    edit,
    ply,
    unaligned,
    write_scan,
)


def read(root: Path, name: str = NAME) -> Scan:
    return Scans(root, LAYOUT).scan(name)


@pytest.mark.parametrize("matrix", [None, alignment(30), alignment(-145, (0.0, 7.5, -1.0))])
def test_objects_and_their_boxes(tmp_path: Path, matrix: list[list[float]] | None) -> None:
    write_scan(tmp_path, matrix=matrix)
    scan = read(tmp_path)
    assert [(one.id, one.label, one.points) for one in scan.objects.values()] == [
        ("0", "floor", 8),
        ("1", "coffee table", 8),
        ("2", "chair", 8),
    ]
    for thing, one in zip((FLOOR, TABLE, CHAIR), scan.objects.values(), strict=True):
        assert one.box == pytest.approx(thing.box, abs=1e-5)
    assert scan.cloud.pose == (None if matrix is None else pytest.approx(np.array(matrix), abs=1e-8))
    assert scan.broken == {}


def test_the_loader_and_the_box_speak_of_one_frame(tmp_path: Path) -> None:
    write_scan(tmp_path, matrix=alignment())
    media = read(tmp_path).region("2")
    assert media.region == Region("2", read(tmp_path).objects["2"].box)
    points = CloudLoader()(media)[:, :3].double().numpy()
    centre, size = np.array(media.region.box).reshape(2, 3)
    inside = (abs(points - centre) <= size / 2 + 1e-6).all(axis=1)
    assert inside.tolist() == [False] * 17 + [True] * 8
    assert points[17:].min(axis=0) == pytest.approx(CHAIR.low, abs=1e-5)


def test_a_scene_brings_the_boxes_of_its_things(tmp_path: Path) -> None:
    file = write_scan(tmp_path, [TABLE, CHAIR, FLOOR]) / AGGREGATION.format(NAME)
    groups = json.loads(file.read_text())["segGroups"]
    floors = [
        {**groups[2], "objectId": 3 + n, "label": label} for n, label in enumerate(("shower_floor", "wall"))
    ]
    again = {**groups[1], "objectId": 5}
    edit(file, segGroups=[*groups, *floors, again, {**groups[0], "objectId": 6, "label": "floor mat"}])
    scan = read(tmp_path)
    assert scan.cloud.objects == tuple(pytest.approx(thing.box) for thing in (TABLE, CHAIR, TABLE))
    assert scan.region("1").objects is None, "one object is meant"
    assert Scans(tmp_path, LAYOUT).scan(NAME, objects=False).cloud.objects is None


@pytest.mark.parametrize("missing", [[SEGMENTS], [AGGREGATION], [SEGMENTS, AGGREGATION], []])
def test_scans_without_annotation_are_known(tmp_path: Path, missing: list[str]) -> None:
    folder = write_scan(tmp_path)
    for file in missing:
        (folder / file.format(NAME)).unlink()
    assert Scans(tmp_path, LAYOUT).annotated(NAME) == (not missing)


def test_a_test_scan_has_a_home_of_its_own_and_no_objects(tmp_path: Path) -> None:
    write_scan(tmp_path, name="scene0001_00")
    folder = write_scan(tmp_path, home="scans_test")
    (folder / AGGREGATION.format(NAME)).unlink()
    scan = Scans(tmp_path, LAYOUT).scan(NAME, objects=False)
    assert scan.cloud.path == folder / MESH.format(NAME)
    assert scan.objects == {}
    assert len(read(tmp_path, "scene0001_00").objects) == 3


coordinates = st.tuples(*[st.integers(-9, 9).map(float)] * 3)


@settings(max_examples=25)
@given(
    points=st.lists(coordinates, min_size=2, max_size=12, unique=True),
    wanted=st.lists(st.sets(st.integers(0, 3), min_size=1), max_size=4),
    data=st.data(),
)
def test_boxes_equal_those_of_a_walk_over_all_vertices(
    tmp_path_factory: pytest.TempPathFactory,
    points: list[tuple[float, float, float]],
    wanted: list[set[int]],
    data: st.DataObject,
) -> None:
    """Objects may share segments."""
    root = tmp_path_factory.mktemp("scan")
    folder = write_scan(root)
    segments = [data.draw(st.integers(0, 3)) for _ in points]
    (folder / MESH.format(NAME)).write_bytes(ply(points))
    edit(folder / SEGMENTS.format(NAME), segIndices=segments)
    groups = [{"objectId": n, "segments": list(own), "label": "a"} for n, own in enumerate(wanted)]
    edit(folder / AGGREGATION.format(NAME), segGroups=groups)
    scan = read(root)
    for number, own in enumerate(wanted):
        mine = [point for point, segment in zip(points, segments, strict=True) if segment in own]
        low, high = (tuple(pick(axis) for axis in zip(*mine, strict=True)) for pick in (min, max))
        thing = Thing("a", low, high)  # type: ignore[arg-type]
        good = own <= set(segments) and all(side > 0 for side in thing.box[3:])
        assert (str(number) in scan.objects) == good
        assert (str(number) in scan.broken) == (not good)
        if good:
            assert scan.objects[str(number)].box == pytest.approx(thing.box)
            assert scan.objects[str(number)].points == len(mine)


def test_objects_that_stand_twice(tmp_path: Path) -> None:
    file = write_scan(tmp_path) / AGGREGATION.format(NAME)
    groups = json.loads(file.read_text())["segGroups"]
    again = [{**group, "objectId": group["objectId"] + 3} for group in groups]
    edit(file, segGroups=[*groups, *again, groups[0]])
    scan = read(tmp_path)
    assert list(scan.objects) == ["0", "1", "2", "3", "4", "5"]  # descriptions may speak of either
    assert scan.object("5").box == scan.object("2").box
    assert [one.id for one in scan.distinct()] == ["0", "1", "2"]
    edit(file, segGroups=[*groups, {**groups[1], "segments": groups[2]["segments"]}])
    with pytest.raises(
        BadItemError, match=rf"object 1 of {NAME} occurs twice in .*json, with different content"
    ):
        read(tmp_path).object("1")


OBJECTS = {
    "unknown": ({}, "9", rf"{NAME} has no object '9'; it has 0, 1, 2$"),
    "of no segment": ({"segments": []}, "1", f"object 1 of {NAME} has no extent: no segment"),
    "of a segment that is not there": (
        {"segments": [101, 55]},
        "1",
        rf"object 1 of {NAME} has segments without vertices: \[55\]",
    ),
    "flat": (
        {"segments": [7]},
        "1",
        f"object 1 of {NAME} has no extent around its 1 points: its size along x is 0",
    ),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_objects_that_cannot_be_spoken_of(tmp_path: Path, case: str) -> None:
    changes, asked, message = OBJECTS[case]
    file = write_scan(tmp_path) / AGGREGATION.format(NAME)
    groups = json.loads(file.read_text())["segGroups"]
    groups[1] |= changes
    edit(file, segGroups=groups)
    with pytest.raises(BadItemError, match=message):
        read(tmp_path).region(asked)
    assert read(tmp_path).region("2").region is not None


def drop(pattern: str) -> Callable[[Path], None]:
    return lambda folder: (folder / pattern.format(NAME)).unlink()


def write(pattern: str, content: str | bytes) -> Callable[[Path], None]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / pattern.format(NAME)).write_bytes(raw) and None


def put(pattern: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / pattern.format(NAME), **changes)


def info(numbers: str) -> Callable[[Path], None]:
    return write(INFO, f"axisAlignment = {numbers}\n")


NAN = float("nan")
SCANS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no mesh": (drop(MESH), rf"the scan {NAME} lacks {MESH.format(NAME)} in .*{NAME}$"),
    "no segments": (drop(SEGMENTS), rf"lacks {SEGMENTS.format(NAME)} in"),
    "no objects": (drop(AGGREGATION), rf"lacks {AGGREGATION.format(NAME)} in"),
    "no information": (drop(INFO), rf"lacks {INFO.format(NAME)} in"),
    "another number of vertices": (
        put(SEGMENTS, segIndices=[1] * 24),
        "segs.json has the segments of 24 vertices, but the mesh has 25; one of the files is cut short",
    ),
    "a cut mesh": (
        write(MESH, ply([(0.0, 0.0, 0.0)] * 25)[:-3]),
        "its header promises 25 of the element 'vertex', 24 follow",
    ),
    "a mesh of no point": (write(MESH, ply([])), "the cloud is empty, it has no point"),
    "a mesh of one point": (write(MESH, ply([(1, 2, 3)])), "it has a single point, a cloud needs an extent"),
    "a mesh of NaN": (
        write(MESH, ply([(1, 2, 3)] * 24 + [(NAN, 0, 0)])),
        "1 of 25 points are NaN or infinite, the first is number 24",
    ),
    "segments that are no numbers": (
        put(SEGMENTS, segIndices=["1"] * 25),
        "the segIndices in .*segs.json should be whole numbers of 0 to .*, found '1'",
    ),
    "segments without their key": (write(SEGMENTS, "{}"), "segs.json: the key 'segIndices' is missing"),
    "damaged segments": (
        write(SEGMENTS, '{"segIndices": [1,'),
        "segs.json is not valid JSON at line 1, column 19",
    ),
    "objects without their key": (
        write(AGGREGATION, "{}"),
        "aggregation.json: the key 'segGroups' is missing",
    ),
    "an object without an id": (
        put(AGGREGATION, segGroups=[{"segments": [100], "label": "a"}]),
        "the key 'objectId' is missing",
    ),
    "an object with a name for an id": (
        put(AGGREGATION, segGroups=[{"objectId": "chair", "segments": [100], "label": "a"}]),
        "'objectId' should be the number of an object, found 'chair'",
    ),
    "information that is no text": (write(INFO, b"\xff\xfe"), "txt is not text in UTF-8 at byte 0"),
    "an alignment of 15 numbers": (
        info("1 " * 15),
        "the axisAlignment in .*txt is not 16 numbers, found 15",
    ),
    "an alignment of words": (
        info("one " * 16),
        "is not 16 numbers: could not convert string to float: 'one'",
    ),
    "an alignment of NaN": (info("nan " * 16), "is no rigid motion: nan nan"),
    "an alignment that scales": (info("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1"), "no rigid motion: 2 0 0 0 0 2"),
    "an alignment that mirrors": (info("-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"), "is no rigid motion"),
    "an alignment of another last row": (info("1 0 0 0 0 1 0 0 0 0 1 0 1 0 0 1"), "is no rigid motion"),
}


@pytest.mark.parametrize("case", SCANS)
def test_broken_scans(tmp_path: Path, case: str) -> None:
    spoil, message = SCANS[case]
    spoil(write_scan(tmp_path, matrix=alignment()))
    write_scan(tmp_path, name="scene0001_00")
    scans = Scans(tmp_path, LAYOUT)
    for _ in range(2):  # also when it is known already
        with pytest.raises(BadItemError, match=message) as caught:
            scans.scan(NAME)
        assert NAME in str(caught.value)
    assert len(scans.scan("scene0001_00").objects) == 3


def test_a_mended_scan_is_read_anew(tmp_path: Path) -> None:
    folder = write_scan(tmp_path)
    good = (folder / MESH.format(NAME)).read_bytes()
    write(MESH, ply([]))(folder)
    with pytest.raises(BadItemError, match="the cloud is empty"):
        read(tmp_path)
    write(MESH, good)(folder)
    assert len(read(tmp_path).objects) == 3


@pytest.mark.parametrize("name", ["../scans/scene0000_00", "/etc", "a/../../b", "C:\\scene", "", "scene\0"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    write_scan(tmp_path)
    with pytest.raises(BadItemError, match=r"leads out of the data folder|cannot be read"):
        read(tmp_path, name)


def test_links_that_lead_out(tmp_path: Path) -> None:
    write_scan(tmp_path / "other")
    (tmp_path / "root" / "scans").mkdir(parents=True)
    (tmp_path / "root" / "scans" / NAME).symlink_to(tmp_path / "other" / "scans" / NAME)
    with pytest.raises(BadItemError, match="leads out of the data folder"):
        read(tmp_path / "root")


def test_missing_scans_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"scans/ and scans_test/ not found in the data folder"):
        read(tmp_path)
    (tmp_path / "scans").mkdir()
    with pytest.raises(
        BadItemError, match=rf"the folder .*{NAME}, which should hold '{NAME}_vh_clean_2\.ply'"
    ):
        read(tmp_path)


@pytest.mark.parametrize(("value", "found"), [("34", "34"), (34, "34"), (" 7", "7"), ("007", "7")])
def test_object_ids_in_their_two_forms(value: object, found: str) -> None:
    assert object_id({"object_id": value}, "object_id") == found


@pytest.mark.parametrize("value", ["", "chair", "-1", "1.5", 1.5, -1, True, None, [1]])
def test_what_is_no_object_id(value: object) -> None:
    with pytest.raises(
        BadItemError, match=r"'object_id' should be (the number of an object|a number or a string), found"
    ):
        object_id({"object_id": value}, "object_id")


def test_the_helper_undoes_the_alignment() -> None:
    matrix = alignment(77, (3.0, 1.0, 2.0))
    for point in CHAIR.corners():
        assert np.array(matrix) @ (*unaligned(point, matrix), 1) == pytest.approx((*point, 1))
