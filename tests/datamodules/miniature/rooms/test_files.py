"""Rooms are written in the official layouts, same seed, same bytes; readers of real data find the facts."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.benchmarks import read
from datamodules.benchmarks.clouds import scannet
from datamodules.miniature.rooms import files
from datamodules.miniature.rooms.files import Sizes, build, plan, room_of
from datamodules.miniature.rooms.furniture.catalogue import CLASSES, KINDS, UNSEEN_CLASSES
from datamodules.miniature.rooms.scannet import COLUMNS
from datamodules.miniature.rooms.sensor import FLOOR, NOTHING, WALL, scan
from datamodules.miniature.rooms.shapenet import POINTS, SUBJECTS
from datamodules.miniature.rooms.texts.annotations import WORLDS
from octavius.instruction.sample import ClassName, DescribedObjects, References, Sample
from octavius.media.clouds import read_points
from tests.datamodules.miniature.rooms.conftest import SIZES

Facts = dict[str, dict[str, Any]]
SETS = [(world, split) for world, facts in WORLDS.items() for split in facts.splits]


def scans(world: str, split: str) -> list[str]:
    return [job.scan for job in plan(SIZES) if (job.world, job.split) == (world, split)]


def boxed(box: tuple[float, ...]) -> np.ndarray:
    """Centre and size as edges."""
    centre, size = np.array(box[:3]), np.array(box[3:])
    return np.concatenate([centre - size / 2, centre + size / 2])


def region(sample: Sample) -> tuple[str, np.ndarray]:
    """The object that a sample means, and its box."""
    found = sample.media["cloud"].region
    assert found is not None
    assert found.box is not None
    return found.object, boxed(found.box)


@pytest.mark.parametrize(("world", "split"), SETS)
def test_readers_find_the_objects(rooms_root: Path, facts: Facts, world: str, split: str) -> None:
    samples = read("scannet_classification", rooms_root / world, split)
    things = {
        f"{name}-{thing['id']}": thing
        for name in scans(world, split)
        for thing in facts[world][name]["objects"]
    }
    assert {sample.id for sample in samples} == set(things)
    for sample in samples:
        thing = things[sample.id]
        assert isinstance(sample.gold, ClassName)
        assert sample.gold.name == thing["name"]
        _, edges = region(sample)
        whole = np.array(thing["box"])
        assert (edges[:3] >= whole[:3] - 0.03).all()
        assert (edges[3:] <= whole[3:] + 0.03).all()


def test_seen_boxes_are_nearly_the_whole_ones(rooms_root: Path, facts: Facts) -> None:
    """What was not seen of a piece is at its back or below it, so that its box is mostly right."""
    shares = []
    for sample in read("scannet_classification", rooms_root / "seen", "train"):
        name, number = sample.id.rsplit("-", 1)
        thing = next(thing for thing in facts["seen"][name]["objects"] if thing["id"] == int(number))
        found, whole = region(sample)[1], np.array(thing["box"])
        common = np.clip(np.minimum(found[3:], whole[3:]) - np.maximum(found[:3], whole[:3]), 0, None).prod()
        union = (found[3:] - found[:3]).prod() + (whole[3:] - whole[:3]).prod() - common
        shares.append(common / union)
    assert np.median(shares) > 0.8


@pytest.mark.parametrize(("world", "split"), SETS)
def test_readers_find_the_texts(rooms_root: Path, facts: Facts, world: str, split: str) -> None:
    rows = json.loads((rooms_root / world / f"ScanRefer_filtered_{split}.json").read_text())
    told: dict[str, list[str]] = {}
    for row in rows:
        told.setdefault(f"{row['scene_id']}-{row['object_id']}", []).append(row["description"])
    samples = read("scanrefer_captioning", rooms_root / world, split)
    found = {sample.id: sample.gold.texts for sample in samples if isinstance(sample.gold, References)}
    assert found == {key: tuple(texts) for key, texts in told.items()}
    dense = read("scanrefer_dense_captioning", rooms_root / world, split)
    assert {sample.id for sample in dense} == {row["scene_id"] for row in rows}
    assert sum(
        len(sample.gold.objects) for sample in dense if isinstance(sample.gold, DescribedObjects)
    ) == len(told)
    asked = read("scanqa", rooms_root / world, {"test": "test_w_obj"}.get(split, split))
    assert {sample.group for sample in asked} <= {"number", "colour", "place", "yes or no", "object"}
    if split != "train":
        said = read("nr3d_captioning", rooms_root / world, split)
        assert {sample.id for sample in said} <= {
            f"{name}-{thing['id']}" for name in scans(world, split) for thing in facts[world][name]["objects"]
        }


def test_training_has_no_utterances(rooms_root: Path) -> None:
    with pytest.raises(ValueError, match="no sample found"):
        read("nr3d_captioning", rooms_root / "seen", "train")


def test_the_alignment_brings_points_back(rooms_root: Path) -> None:
    room = room_of(0, "seen", "train", 1)
    seen = scan(room)
    samples = read("scannet_classification", rooms_root / "seen", "train")
    cloud = next(sample for sample in samples if sample.id.startswith("scene0001_00")).media["cloud"]
    points = read_points(cloud)
    assert points[:, :3] == pytest.approx(seen.points, abs=2e-5)
    assert points[:, 3:] * 255 == pytest.approx(seen.colours, abs=0.01)
    assert cloud.pose is not None
    assert abs(cloud.pose[0][0]) < 0.9999  # it is turned


def test_labels_and_segments_are_as_official(rooms_root: Path) -> None:
    folder = rooms_root / "seen"
    header, *rows = (folder / "scannetv2-labels.combined.tsv").read_text().splitlines()
    assert header.split("\t") == list(COLUMNS)
    assert [row.split("\t")[1] for row in rows] == ["wall", "floor", *CLASSES]
    numbers = scannet.nyu40_ids(folder)
    assert {name: numbers[name] for name in CLASSES} == {name: KINDS[name].nyu40 for name in CLASSES}
    assert set(scannet.nyu40_ids(rooms_root / "unseen_classes")) >= set(UNSEEN_CLASSES)
    name = "scene0000_00"
    groups = json.loads((folder / "scans" / name / f"{name}.aggregation.json").read_text())["segGroups"]
    used = Counter(segment for group in groups for segment in group["segments"])
    assert max(used.values()) == 1
    found = scan(room_of(0, "seen", "train", 0))
    segments = json.loads((folder / "scans" / name / f"{name}_vh_clean_2.0.010000.segs.json").read_text())
    assert segments["segIndices"] == found.segments.tolist()
    owner = {segment: group["objectId"] for group in groups for segment in group["segments"]}
    kept = [*found.seen]
    labels = {group["objectId"]: group["label"] for group in groups}
    ends = {WALL: "wall", FLOOR: "floor"}
    for segment, piece in zip(found.segments.tolist(), found.owners.tolist(), strict=True):
        if piece in kept:
            assert owner[segment] == piece
        elif piece in ends:
            assert labels[owner[segment]] == ends[piece]
        else:
            assert piece == NOTHING or piece not in kept
            assert segment not in owner


@pytest.mark.parametrize(("world", "split"), [("seen", "train"), *((world, "test") for world in SUBJECTS)])
def test_readers_find_single_things(rooms_root: Path, world: str, split: str) -> None:
    samples = read("shapenet_classification", rooms_root / world, split)
    names = [sample.gold.name for sample in samples if isinstance(sample.gold, ClassName)]
    assert names == list(SUBJECTS[world])
    for sample in samples:
        points = read_points(sample.media["cloud"])[:, :3]
        assert points.shape == (POINTS, 3)
        assert points.mean(0) == pytest.approx(np.zeros(3), abs=1e-5)
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-5)
    tall = next(sample for sample in samples if sample.gold == ClassName(names[0], tuple(sorted(set(names)))))
    path = tall.media["cloud"].path
    assert path is not None
    assert np.load(path).dtype == np.float32


def test_things_stand_upright_after_the_readers_turn(rooms_root: Path) -> None:
    """A table's top is above: its points crowd at the upper end."""
    samples = read("shapenet_classification", rooms_root / "seen", "test")
    [table] = [
        sample for sample in samples if isinstance(sample.gold, ClassName) and sample.gold.name == "table"
    ]
    heights = read_points(table.media["cloud"])[:, 2]
    assert (heights > np.quantile([heights.min(), heights.max()], 0.8)).mean() > 0.5


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(
    rooms_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FEW", 0)  # by two processes, where the fixture took none
    again = digests(build(tmp_path / "again", 0, SIZES, progress=False, processes=2))
    assert again == digests(rooms_root)
    assert len(again) > 4 * (3 + 2 + 2 + 6)


def test_another_seed_gives_other_rooms() -> None:
    for world, split in SETS:
        assert room_of(0, world, split, 0) != room_of(1, world, split, 0)


def test_a_complete_root_is_left_alone_and_another_is_refused(rooms_root: Path) -> None:
    assert build(rooms_root, sizes=SIZES, progress=False) == rooms_root
    with pytest.raises(ValueError, match=r"of other settings(.|\n)*'seed': 0(.|\n)*'seed': 1"):
        build(rooms_root, 1, SIZES, progress=False)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1; found \{'val': 0\}"):
        Sizes(val=0)
    with pytest.raises(ValueError, match=r"at most .* rooms can be numbered; found \{'unseen': 1001\}"):
        Sizes(unseen=1001)
    largest = Sizes(5000, 1000, 1000, 1000)
    names = [job.scan for job in plan(largest)]
    assert len(set(names)) == len(names) == 10_000
    assert all(len(name) == len("scene0000_00") for name in names)
