"""Scans are written in ScanNet's layout, with the labels of NYU40."""

import json
from collections import Counter
from pathlib import Path

import pytest

from datamodules.benchmarks import read
from datamodules.benchmarks.clouds import scannet
from datamodules.miniature.rooms.files import room_of
from datamodules.miniature.rooms.furniture.catalogue import (
    CLASSES,
    KINDS,
    UNSEEN_CLASSES,
)
from datamodules.miniature.rooms.scannet import COLUMNS, NYU40
from datamodules.miniature.rooms.sensor import FLOOR, NOTHING, WALL, scan
from octavius.media.clouds import read_points


def test_labels_of_the_set_of_forty() -> None:
    named = {name: NYU40[kind.nyu40 - 1] for name, kind in KINDS.items()}
    same = "bathtub bed bookshelf box cabinet chair curtain desk door dresser lamp picture sink sofa table toilet"
    assert {name for name, label in named.items() if label == name} == {*same.split(), "whiteboard", "window"}
    assert (named["refrigerator"], named["nightstand"], named["tv"]) == (
        "refridgerator",
        "night stand",
        "television",
    )
    assert (len(NYU40), NYU40[0], NYU40[21], NYU40[38]) == (40, "wall", "ceiling", "otherfurniture")


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
