"""Rooms are written in the official layouts, same seed, same bytes; readers of real data find the facts."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.benchmarks import read
from datamodules.miniature.rooms import files
from datamodules.miniature.rooms.files import Sizes, build, plan, room_of
from datamodules.miniature.rooms.texts.annotations import WORLDS
from octavius.instruction.sample import ClassName, DescribedObjects, References, Sample
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
