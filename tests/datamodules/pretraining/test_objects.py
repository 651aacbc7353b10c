"""Objects of rooms have true names, colours, crops and views."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.benchmarks import read
from datamodules.miniature.pretraining.objects import MiniatureObjects
from datamodules.miniature.rooms.files import Sizes, build
from datamodules.mixture import Draw
from datamodules.pretraining.object_clouds import KEPT, Facts
from datamodules.pretraining.objects import MAX_VIEW_ANGLE, Objects, ObjectSource, TrainingObjects, yaws
from datamodules.pretraining.render import render
from datamodules.pretraining.size_baseline import SizeBaseline
from octavius.media.clouds import read_points
from octavius.media.crops import FEWEST, MARGIN, crop
from octavius.media.meshes import GREY

SCANS = ObjectSource("scannet_classification", "train", "seen", weight=2)
SHAPES = ObjectSource("shapenet_classification", "train", "seen")
NEW = ObjectSource("scannet_classification", "val", "seen", "rooms")
PAIRS = ObjectSource("scannet_classification", "test", "unseen_pairs", "pairs", held_out=True)
GREYS = ObjectSource("shapenet_classification", "test", "seen", "shapes")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = Sizes(train=2, val=2, test=1, unseen=1, things_train=1, things_test=1)
    return build(tmp_path_factory.mktemp("data") / "rooms", sizes=sizes, progress=False, processes=1)


@pytest.fixture(scope="module")
def told(root: Path) -> dict[str, dict[str, Any]]:
    """What is true of every object of the seen rooms, by scan and number."""
    rooms = json.loads((root / "seen" / "objects.json").read_text())
    return {f"{scan}-{one['id']}": one for scan, room in rooms.items() for one in room["objects"]}


@pytest.fixture(scope="module")
def data(root: Path) -> Objects:
    return MiniatureObjects(
        str(root), [SCANS, SHAPES], [NEW, PAIRS, GREYS], points=48, batch_size=4, workers=0
    )


def test_objects_have_their_names_colours_and_points(data: Objects, told: dict[str, dict[str, Any]]) -> None:
    found = data.objects(SCANS)
    assert len(found) > 5
    for one in found:
        fact = told[one.key]
        assert (one.name, one.facts.colour) == (fact["name"], fact["colour"])
        assert one.box is not None
        assert one.points.shape[1] == 6
        assert FEWEST <= len(one.own_points()) <= KEPT
        low, high = np.array(fact["box"][:3]) - 0.1, np.array(fact["box"][3:]) + 0.1
        assert ((one.box[:3] > low) & (one.box[:3] < high)).all()


def test_single_objects_are_whole_and_grey(data: Objects) -> None:
    for one in data.objects(SHAPES):
        assert one.box is None
        assert (one.points[:, 3:] == GREY).all()
        assert one.facts == Facts()
        assert one.crop(48, 0.1, torch.Generator()).shape == (48, 6)


def test_crops_of_gold_boxes_are_those_of_whole_scenes(data: Objects, root: Path) -> None:
    one = min(data.objects(NEW), key=lambda one: len(one.points))
    assert len(one.points) < KEPT
    samples = {sample.id: sample for sample in read(NEW.benchmark, root / "seen", "val")}
    sample = samples[one.key]
    scene = torch.from_numpy(read_points(sample.media["cloud"]))
    expected = crop(scene, one.box, count=4000)  # type: ignore[arg-type]
    found = one.crop(4000, 0, None)
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in expected.tolist()}


def test_training_crops_are_off_by_as_much_as_is_said(data: Objects) -> None:
    centres = []
    for one in data.objects(SCANS)[:4]:
        assert one.box is not None
        for seed in range(6):
            cut = one.crop(48, 0.1, torch.Generator().manual_seed(seed))
            again = one.crop(48, 0.1, torch.Generator().manual_seed(seed))
            assert torch.equal(cut, again)
            reach = torch.tensor(one.box[3:]) * 0.7 + MARGIN + 1e-4
            assert ((cut[:, :3] - torch.tensor(one.box[:3])).abs() <= reach).all()
            centres.append(cut[:, :3].mean(0) - one.own_points()[:, :3].mean(0))
    assert torch.stack(centres).norm(dim=1).min() > 0


def test_training_items_tell_what_is_true(data: Objects) -> None:
    loader = data.train_dataloader()
    items = loader.dataset
    assert isinstance(items, TrainingObjects)
    draws = [Draw(source, index, epoch) for source in (0, 1) for index in range(6) for epoch in range(4)]
    with_colour = 0
    for draw in draws:
        item, one = items[draw], data.training_objects()[draw.source][draw.sample_index]
        assert items.classes[item["label"]] == one.name
        assert one.name in item["text"]
        assert (item["colour"] >= 0) == bool(one.facts.colour)
        assert item["mentioned"] in (-1, item["colour"])
        said = items.colours[item["mentioned"]] if item["mentioned"] >= 0 else None
        assert (said is not None) == any(colour in item["text"].split() for colour in items.colours)
        assert said is None or f"{said} {one.name}" in item["text"]
        assert " a orange" not in item["text"].replace("of a orange", "")
        again = items[draw]
        assert item["text"] == again["text"]
        assert torch.equal(item["points"], again["points"])
        with_colour += said is not None
    assert 0 < with_colour < len(draws) / 2 + 12
    numbers = {items[Draw(source, index, 0)]["object"] for source in (0, 1) for index in range(5)}
    assert len(numbers) == 10


def test_a_batch_holds_what_the_module_reads(data: Objects) -> None:
    batches = list(data.train_dataloader())
    sizes = [len(objects) for objects in data.training_objects()]
    assert len(batches) == sum(sizes) // 4
    batch = batches[0]
    assert next(iter(batch)) == "points"
    assert batch["points"].shape == (4, 48, 6)
    assert {batch[name].shape for name in ("label", "colour", "mentioned", "object")} == {(4,)}
    assert len(batch["text"]) == 4
    counts = np.bincount([int(number >= sizes[0]) for batch in batches for number in batch["object"]])
    assert counts[0] == pytest.approx(2 * counts[1], abs=4)


def test_validation_sets_are_named_and_keep_their_names(data: Objects, root: Path) -> None:
    rooms, pairs, shapes = ([*loader] for loader in data.val_dataloader())
    assert [part[0]["set"] for part in (rooms, pairs, shapes)] == ["rooms", "pairs", "shapes"]
    for batches, source in ((rooms, NEW), (pairs, PAIRS), (shapes, GREYS)):
        objects = data.objects(source)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(objects)))
        names = [batch["classes"][label] for batch in batches for label in batch["label"]]
        assert names == [one.name for one in objects]
    facts = json.loads((root / "unseen_pairs" / "objects.json").read_text())
    assert 0 < len(data.objects(PAIRS)) < sum(len(room["objects"]) for room in facts.values())
    assert all(one.facts.held_out for one in data.objects(PAIRS))
    assert not any(one.facts.held_out for one in data.objects(SCANS))


def test_the_size_baseline_is_that_of_the_training_boxes(data: Objects) -> None:
    boxes = [(one.name, one.box[3:]) for one in data.objects(SCANS) if one.box is not None]
    guess = SizeBaseline([name for name, _ in boxes], [sides for _, sides in boxes])
    asked = [(one.name, one.box[3:]) for one in data.objects(NEW) if one.box is not None]
    right = [guess([sides])[0] == name for name, sides in asked]
    assert data.size_baseline(NEW) == pytest.approx(sum(right) / len(right))
    assert data.size_baseline(GREYS) is None


def test_views_show_the_objects_from_about_their_fronts(data: Objects) -> None:
    views = list(data.view_dataloader())
    numbers = torch.cat([batch["object"] for batch in views])
    images = torch.cat([batch["images"] for batch in views])
    everything = [one for objects in data.training_objects() for one in objects]
    assert numbers.tolist() == list(range(len(everything)))
    assert images.shape == (len(everything), 3, 64, 64, 3)
    assert images.dtype == torch.uint8
    place, one = next((place, one) for place, one in enumerate(everything) if one.facts.front is not None)
    assert one.facts.front is not None
    ahead = render(one.own_points().numpy(), one.facts.front)
    assert np.array_equal(images[place, 1].numpy(), ahead)
    assert yaws(1.0, 1) == [1.0]
    assert yaws(1.0, 3) == pytest.approx([1 - MAX_VIEW_ANGLE, 1.0, 1 + MAX_VIEW_ANGLE])
    assert yaws(None, 4) == pytest.approx([0, np.pi / 2, np.pi, 3 * np.pi / 2])


def test_fronts_are_where_views_at_yaw_zero_stand(told: dict[str, dict[str, Any]], data: Objects) -> None:
    for one in data.objects(SCANS):
        front = told[one.key]["front"]
        if front is None:
            assert one.facts.front is None
        else:
            yaw = one.facts.front
            assert yaw is not None
            assert (-np.sin(yaw), np.cos(yaw)) == pytest.approx(tuple(front))  # where the viewer stands


def test_other_tasks_are_told(root: Path) -> None:
    source = ObjectSource("scanrefer_captioning", "train", "seen")
    with pytest.raises(ValueError, match="does not name the classes of clouds"):
        MiniatureObjects(str(root), [source]).training_objects()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"jitter": 1.0}, "jitter"),
        ({"colours": 1.5}, "colours"),
        ({"points": 0}, "points should be a whole number of at least 1"),
        ({"validate": [NEW, NEW]}, "several validation sets are named rooms"),
    ],
)
def test_settings_without_sense_are_told(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        Objects(str(tmp_path), **settings)


def test_missing_sources_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        Objects(str(tmp_path)).train_dataloader()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Objects(str(tmp_path), [SCANS]).train_dataloader()


def test_a_limit_keeps_the_same_objects_always(root: Path) -> None:
    source = ObjectSource("shapenet_classification", "train", "seen", limit=5)
    first, second = (MiniatureObjects(str(root), [source]).objects(source) for _ in range(2))
    assert len(first) == 5
    assert [one.key for one in first] == [one.key for one in second]
