"""Objects of scenes are cut out, encoded once, kept on disk, and read in the workers."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octavius.boxes import Box3D
from octavius.encoders.detector.detector import Design, Detector, save_detector
from octavius.encoders.detector.proposals import Proposals
from octavius.encoders.point_bert import PointBERT, load_point_bert, save_point_bert, unit_sphere
from octavius.encoders.rois import proposals as proposals_module
from octavius.encoders.rois import scene as scene_module
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.scene import SceneEncoder
from octavius.instruction.sample import Media, Pose, Region
from octavius.media.clouds import CloudLoader
from octavius.media.crops import crop

SIZES: dict[str, Any] = {"groups": 4, "group_size": 4, "width": 8, "depth": 1, "heads": 2, "token_width": 4}
THINGS: tuple[Box3D, ...] = ((1, 1, 0.5, 1, 1, 1), (3, 1, 0.25, 0.5, 0.5, 0.5), (2, 3, 1, 1.5, 0.5, 2))
MOVED: Pose = ((0, -1, 0, 2), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
Make = Callable[..., SceneEncoder]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random Point-BERTs, `a` and `b`, one without a projection, `c`, and two detectors, `d` and `e`."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        projection = None if name == "c" else 5
        save_point_bert(PointBERT(num_points=40, projection_width=projection, **SIZES), folder / name)
    design = Design(voxel_size=0.25, widths=(2, 2, 2, 2), blocks=(1, 1, 1, 1), stem=2, pool=False, channels=2)
    for name in "de":
        save_detector(Detector(("chair",), "tr3d", design), folder / name)
    return folder


@pytest.fixture
def make(weights: Path, tmp_path: Path) -> Make:
    """Makes an encoder of small sizes; options change it."""

    def made(**changes: Any) -> SceneEncoder:
        options = {"points": "a", "proposals": "gold", "cache": str(tmp_path / "cache"), **changes}
        options["points"] = str(weights / options["points"])
        if options["proposals"] in ("d", "e"):
            options["proposals"] = str(weights / options["proposals"])
        return SceneEncoder(**options, reader=ReaderSizes(width=8, queries=2, heads=2))

    return made


def write_room(folder: Path, name: str = "scene7", things: tuple[Box3D, ...] = THINGS) -> Media:
    """A cloud of 60 points in each of some boxes, and 50 that are far from all."""
    rng = np.random.default_rng(len(things))
    parts = [(rng.random((60, 3)) - 0.5) * box[3:] + box[:3] for box in things]
    cloud = np.concatenate([*parts, rng.random((50, 3)) + 10])
    file = folder / f"{name}.npy"
    np.save(file, np.concatenate([cloud, rng.random(cloud.shape)], 1).astype(np.float32))
    return Media(path=file, objects=things)


def load(encoder: SceneEncoder, *media: Media) -> Any:
    loader = encoder.loader()
    return loader.collate([loader(medium) for medium in media])


def expected(weights: Path, medium: Media, box: Box3D, margin: float = 0.05) -> Tensor:
    """The projected feature of what lies in a box, by hand."""
    model = load_point_bert(str(weights / "a"))
    with torch.inference_mode():
        cut = crop(CloudLoader()(medium), box, margin, count=40, fewest=1)
        return model.project(model(unit_sphere(cut)[None]))[0]


def test_gold_objects_largest_first(tmp_path: Path, make: Make, weights: Path) -> None:
    room, encoder = write_room(tmp_path), make()
    empty = Media(path=room.path, objects=())
    encoder.prepare([room, room, empty], "cpu")
    found = load(encoder, room, empty, room)
    assert found.ptr.tolist() == [0, 3, 3, 6]
    order = [THINGS[2], THINGS[0], THINGS[1]]  # volumes 1.5, 1, 0.125
    torch.testing.assert_close(found.boxes[:3], torch.tensor(order))
    for feature, box in zip(found.x, order, strict=False):
        torch.testing.assert_close(feature, expected(weights, room, box), rtol=1e-4, atol=1e-5)
    reader = encoder.projector(7, normalise=False).eval()
    vectors = reader(encoder(found))
    assert vectors.shape == (3, encoder.num_tokens, 7)
    torch.testing.assert_close(vectors[0], vectors[2])


def test_a_region_is_one_object_in_the_frame_of_the_pose(tmp_path: Path, make: Make, weights: Path) -> None:
    room, encoder = write_room(tmp_path), make()
    turned = (1.0, 1.0, 0.5, 1.0, 1.0, 1.0)  # x, y, z become 2 - y, x, z
    media = [
        replace(room, region=Region("0", THINGS[0])),
        replace(room, region=Region("1", THINGS[1])),
        replace(room, pose=MOVED, region=Region("0", turned)),
    ]
    encoder.prepare(media, "cpu")
    found = load(encoder, *media)
    assert found.ptr.tolist() == [0, 1, 2, 3]
    for feature, medium in zip(found.x, media, strict=True):
        assert medium.region is not None
        box = medium.region.box
        assert box is not None
        torch.testing.assert_close(feature, expected(weights, medium, box), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.boxes[2], torch.tensor(turned))


def test_an_object_that_is_all_of_its_cloud_has_the_box_of_the_cloud(tmp_path: Path, make: Make) -> None:
    points = np.random.default_rng(0).random((30, 3)).astype(np.float32) - 0.5
    points[:2] = (-1, -0.5, 0), (1, 0.5, 0.75)
    np.save(tmp_path / "thing.npy", points)
    in_memory, encoder = Media(array=points, region=Region("x", None)), make()
    media = [Media(path=tmp_path / "thing.npy", region=Region("x", None)), in_memory]
    encoder.prepare(media, "cpu")
    found = load(encoder, *media)
    low, high = points.min(0), points.max(0)
    box = torch.from_numpy(np.concatenate([(low + high) / 2, high - low]))
    torch.testing.assert_close(found.boxes, torch.stack([box, box]))
    assert torch.equal(found.x[0], found.x[1])


def test_boxes_with_few_points_take_no_place(tmp_path: Path, make: Make) -> None:
    room = write_room(tmp_path)
    empty, sparse = (30.0, 0.0, 0.0, 9.0, 9.0, 9.0), (10.2, 10.2, 10.2, 0.4, 0.4, 9.0)
    encoder = make(rois=2)
    full = replace(room, objects=(empty, sparse, *THINGS))
    encoder.prepare([full], "cpu")
    torch.testing.assert_close(load(encoder, full).boxes, torch.tensor([THINGS[2], THINGS[0]]))


def test_a_detector_finds_the_boxes(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    room, encoder = write_room(tmp_path), make(proposals="d", rois=2)
    plain = replace(room, objects=None)
    encoder.prepare([plain], "cpu")  # what random weights find, if anything
    assert load(encoder, plain).num_nodes <= 2
    assert not [name for name, _ in encoder.named_parameters() if "backbone" in name]
    shifted = (3.05, 1, 0.25, 0.5, 0.5, 0.5)  # IoU with the second thing: 0.45 / 0.55
    boxes = torch.tensor([THINGS[0], THINGS[1], shifted, THINGS[2]])

    def propose(self: Detector, points: Tensor, batch: Tensor) -> list[Proposals]:  # noqa: ARG001
        assert (points.shape, batch.tolist()) == ((230, 6), [0] * 230)
        return [Proposals(boxes, torch.tensor([0.2, 0.7, 0.9, 0.3]), torch.tensor([0, 0, 1, 0]))]

    monkeypatch.setattr(Detector, "propose", propose)
    other = make(proposals="d", rois=2, cache=str(tmp_path / "other"))
    other.prepare([plain], "cpu")
    torch.testing.assert_close(load(other, plain).boxes, torch.tensor([shifted, THINGS[2]]))


FILES: dict[str, Callable[[Path, list[Box3D], list[float]], Any]] = {
    ".npz": lambda file, boxes, scores: np.savez(file, boxes=boxes, scores=scores),
    ".npy": lambda file, boxes, scores: np.save(file, np.column_stack([boxes, scores])),
    ".json": lambda file, boxes, scores: file.write_text(json.dumps({"boxes": boxes, "scores": scores})),
}


@pytest.mark.parametrize("ending", FILES)
@pytest.mark.parametrize("name", ["scene7", "scans"])
def test_boxes_of_files(tmp_path: Path, make: Make, ending: str, name: str) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "found").mkdir()
    room = replace(write_room(tmp_path / "scans"), objects=None)
    FILES[ending](tmp_path / "found" / f"{name}{ending}", [*THINGS], [0.5, 0.9, 0.7])
    encoder = make(proposals=str(tmp_path / "found"), rois=2)
    encoder.prepare([room], "cpu")
    torch.testing.assert_close(load(encoder, room).boxes, torch.tensor([THINGS[1], THINGS[2]]))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the clouds that are read from now on."""
    names: list[str] = []
    read = CloudLoader.__call__

    def noted(self: CloudLoader, media: Media) -> Tensor:
        names.append(media.path.name if media.path else "")
        return read(self, media)

    monkeypatch.setattr(CloudLoader, "__call__", noted)
    return names


def test_a_cloud_is_read_once_and_never_again(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [write_room(tmp_path, "one"), write_room(tmp_path, "two", THINGS[:2])]
    media = [*rooms, *(replace(rooms[0], region=Region(str(n), box)) for n, box in enumerate(THINGS))]
    read = counted(monkeypatch)
    first = make()
    first.prepare(media * 2, "cpu")
    assert read == ["one.npy", "two.npy"]
    again = make()
    again.prepare(media, "cpu")
    assert torch.equal(load(again, *media).x, load(first, *media).x)
    assert read == ["one.npy", "two.npy"]
    again.cache.file(media[1]).unlink()
    again.prepare(media, "cpu")
    assert read == ["one.npy", "two.npy", "two.npy"]


def test_what_was_done_stays_done_when_it_is_cut_short(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_module, "AT_ONCE", 3)
    rooms = [write_room(tmp_path, name) for name in ("one", "two", "three")]
    for number, room in enumerate(rooms):  # equal clouds would share their features
        assert room.path is not None
        np.save(room.path, np.load(room.path)[number:])
    encoder, calls = make(), []

    def stopped(features: Tensor) -> Tensor:
        calls.append(len(features))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return features @ encoder.points.projection

    monkeypatch.setattr(encoder.points, "project", stopped)
    with pytest.raises(KeyboardInterrupt):
        encoder.prepare(rooms, "cpu")
    read = counted(monkeypatch)
    encoder.prepare(rooms, "cpu")
    assert read == ["two.npy", "three.npy"]
    assert load(encoder, *rooms).num_nodes == 9


def test_all_failures_are_told_at_the_end(tmp_path: Path, make: Make) -> None:
    good, empty = write_room(tmp_path, "good"), tmp_path / "empty.npy"
    np.save(empty, np.zeros((0, 3)))
    nowhere = replace(good, region=Region("4", (50.0, 0.0, 0.0, 1.0, 1.0, 1.0)))
    media = [
        Media(path=tmp_path / "gone.npy", objects=()),
        Media(path=tmp_path / "gone.npy", objects=()),
        Media(path=empty, objects=()),
        nowhere,
        replace(good, objects=None),
        good,
    ]
    encoder = make()
    with pytest.raises(
        ValueError, match=r"^4 point clouds .* cannot be encoded, the first: no file at .*gone"
    ):
        encoder.prepare(media, "cpu")
    assert load(encoder, good).num_nodes == 3
    for medium, message in (
        (media[2], "the first: .*empty.npy: the cloud is empty"),
        (nowhere, r"good\.npy, object 4: expected at least 1 points in the box at \(50\.00, 0\.00, 0\.00\)"),
        (media[4], "the objects of .*good.npy are not annotated; set `proposals` to a detector"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.prepare([medium], "cpu")


def test_what_is_not_there_is_told(tmp_path: Path, make: Make) -> None:
    room, encoder = write_room(tmp_path), make()
    with pytest.raises(ValueError, match=r"no features of .*scene7\.npy in .*`prepare`"):
        encoder.loader()(room)
    with pytest.raises(ValueError, match="no projection into CLIP's space; set features to 'encoded'"):
        make(points="c")
    assert make(points="c", features="encoded").width == 16
    with pytest.raises(ValueError, match=r"proposals are 'gold' .* but no checkpoint named 'silver'"):
        make(proposals="silver")
    with pytest.raises(ValueError, match="rois should be"):
        make(rois=0)


def test_the_weights_are_frozen_and_stay_in_evaluation(make: Make) -> None:
    encoder = make().train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(
    "change",
    [{"points": "b"}, {"features": "encoded"}, {"proposals": "d"}, {"rois": 5}, {"margin": 0.1}],
    ids=lambda change: next(iter(change)),
)
def test_the_cache_of_other_settings_is_another(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    room, plain = write_room(tmp_path), make()
    plain.prepare([room], "cpu")
    other, read = make(**change), counted(monkeypatch)
    assert other.cache.folder != plain.cache.folder
    with pytest.raises(ValueError, match="no features"):
        other.loader()(room)
    other.prepare([room], "cpu")
    assert read == ["scene7.npy"]
    keys = [json.loads((encoder.cache.folder / "key.json").read_text()) for encoder in (plain, other)]
    assert len([name for name in keys[0] if keys[0][name] != keys[1][name]]) == 1


def test_the_procedure_and_the_detector_are_part_of_the_key(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {make(proposals=name).cache.folder for name in "de"}
    assert len(before) == 2
    for name in ("VERSION", "OVERLAP", "FEWEST"):
        with monkeypatch.context() as patch:
            patch.setattr(scene_module, name, getattr(scene_module, name) * 3)
            assert make(proposals="d").cache.folder not in before
    assert make(proposals="d").cache.folder in before


def test_the_reader_and_blind_controls_share_a_cache(make: Make) -> None:
    assert make(use="boxes").cache.folder == make().cache.folder


def test_the_same_weights_elsewhere_have_the_same_cache(tmp_path: Path, make: Make, weights: Path) -> None:
    (tmp_path / "copy").mkdir()
    for file in (weights / "a").iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    assert make(points=os.path.relpath(tmp_path / "copy", weights)).cache.folder == make().cache.folder
    assert proposals_module.source_of(str(weights / "d")).kind == "detector"
