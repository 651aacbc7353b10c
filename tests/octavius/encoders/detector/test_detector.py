"""Both detectors learn toy scenes, and are saved and loaded unchanged."""

import json
from pathlib import Path

import pytest
import torch

from octavius.encoders.detector.detector import (
    CONFIG,
    WEIGHTS,
    Detector,
    HeadName,
    load_detector,
    save_detector,
)
from octavius.folders import LIST
from octavius.instruction.sample import Boxes3D, LabelledBox3D
from octavius.metrics.boxes.detection3d import MeanAP3D
from tests.octavius.encoders.detector.toys import BOXES, CLASSES, LABELS, TINY, detector, one_batch, scene

HEADS: tuple[HeadName, ...] = ("fcaf3d", "tr3d")


@pytest.mark.parametrize("head", [pytest.param("fcaf3d", marks=pytest.mark.slow), "tr3d"])
def test_a_scene_of_two_boxes_is_learnt(head: HeadName) -> None:
    model, points = detector(head), scene(BOXES, LABELS, 200)
    batch, metric = one_batch(points), MeanAP3D()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(40):
        losses = model.losses(points, batch, [(BOXES, LABELS)])
        optimizer.zero_grad()
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()
    assert model.training
    [found] = model.propose(points, batch)
    assert model.training  # as it was
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    told = [LabelledBox3D(CLASSES[label], tuple(box), score) for box, score, label in rows]
    true = zip(BOXES.tolist(), LABELS.tolist(), strict=True)
    metric.update([told], [Boxes3D(tuple(LabelledBox3D(CLASSES[label], tuple(box)) for box, label in true))])
    assert float(metric.compute()["map25"]) == 1.0


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_two_says_what_each_scene_says_alone(head: HeadName) -> None:
    model = detector(head).eval().double()
    clouds = [scene(BOXES, LABELS), scene(BOXES[:1], LABELS[:1], seed=1)]
    clouds = [cloud.double() for cloud in clouds]
    batch = torch.cat([torch.full((len(cloud),), number) for number, cloud in enumerate(clouds)])
    with torch.no_grad():
        both = model(torch.cat(clouds), batch)
        for number, cloud in enumerate(clouds):
            alone, part = model(cloud, one_batch(cloud)), both.scene(number)
            assert torch.equal(alone.positions, part.positions)
            assert torch.equal(alone.levels, part.levels)
            assert torch.allclose(alone.logits, part.logits, atol=1e-5)
            assert torch.allclose(alone.boxes, part.boxes, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_what_is_saved_is_loaded(head: HeadName, tmp_path: Path) -> None:
    model, points = detector(head), scene(BOXES, LABELS)
    model(points, one_batch(points))  # its norms have seen something
    with torch.no_grad():
        for part in model.parameters():
            part.copy_(part.half())  # what half precision holds
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(buffer.half())
    save_detector(model, tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector")
    assert not loaded.training
    assert (loaded.classes, loaded.detector, loaded.design) == (model.classes, head, TINY)
    assert (loaded.voxel_size, loaded.class_levels) == (TINY.voxel_size, (0, 0))
    [mine], [theirs] = model.propose(points, one_batch(points)), loaded.propose(points, one_batch(points))
    assert torch.equal(mine.boxes, theirs.boxes)
    assert torch.equal(mine.scores, theirs.scores)
    assert {file.name for file in (tmp_path / "detector").iterdir()} == {CONFIG, WEIGHTS, LIST}


def test_folders_without_a_detector_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load_detector(tmp_path)
    save_detector(detector("tr3d"), tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not the file that was saved with the others"):
        load_detector(tmp_path)
    (tmp_path / LIST).unlink()
    with pytest.raises(ValueError, match="no detector that can be loaded"):
        load_detector(tmp_path)
    save_detector(detector("tr3d"), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"classes": ["one", "two", "three"]}))
    (tmp_path / LIST).unlink()
    with pytest.raises(ValueError, match=r"(?s)no detector that can be loaded.*size mismatch"):
        load_detector(tmp_path)


@pytest.mark.parametrize("classes", [(), ("chair", "chair")])
def test_classes_must_be_told_apart(classes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="classes of different names"):
        Detector(classes, "tr3d", TINY)


def test_points_need_colours() -> None:
    with pytest.raises(ValueError, match=r"points with colours \(P, 6\), found \(5, 3\)"):
        detector("tr3d")(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long))


def test_tr3d_cannot_be_trained_without_the_levels_of_its_classes() -> None:
    model, points = Detector(CLASSES, "tr3d", TINY), scene(BOXES, LABELS)
    with pytest.raises(ValueError, match="pass class_levels"):
        model.losses(points, one_batch(points), [(BOXES, LABELS)])
