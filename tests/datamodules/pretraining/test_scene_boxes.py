"""Scans on disk become batches of scenes with boxes; whatever is done to a scene, things stay in their boxes."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Batch

from datamodules.pretraining.scene_augmentation import Augmentation
from datamodules.pretraining.scene_boxes import SceneBoxes
from tests.datamodules.benchmarks.scan_files import CHAIR, FLOOR, NAME, TABLE, Thing, write_labels, write_scan

STOOL = Thing("chair", (0.0, 2.0, 0.0), (0.5, 3.0, 0.5))
STILL = Augmentation(flip=0, turn=0, scale=(1, 1), shift=(0, 0, 0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two scans to train, one of them without a thing, and one of val."""
    write_labels(tmp_path)
    write_scan(tmp_path, [FLOOR, TABLE, CHAIR, STOOL])
    write_scan(tmp_path, [FLOOR], "scene0001_00")
    write_scan(tmp_path, [FLOOR, CHAIR], "scene0002_00")
    (tmp_path / "scannetv2_train.txt").write_text(f"{NAME}\nscene0001_00\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0002_00\n")
    return tmp_path


def ready(root: Path, **changes: object) -> SceneBoxes:
    settings: dict[str, object] = {"workers": 0, "batch_size": 2, "augmentation": STILL}
    data = SceneBoxes(str(root), **(settings | changes))  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def test_a_batch_holds_the_points_and_boxes_of_its_scenes(root: Path) -> None:
    data = ready(root)
    assert data.classes == ("chair", "coffee table")
    [batch] = data.train_dataloader()
    assert isinstance(batch, Batch)
    assert {*batch.name} == {NAME, "scene0001_00"}
    full = batch.name.index(NAME)
    assert batch.boxes_batch.tolist() == [full] * 3  # the other one has none
    wanted = {(*CHAIR.box, 0.0), (*STOOL.box, 0.0), (*TABLE.box, 1.0)}
    found = torch.cat([batch.boxes, batch.labels[:, None]], dim=1).tolist()
    assert {tuple(row) for row in found} == wanted
    assert batch.batch.bincount().tolist()[full] == 1 + 4 * 8
    points = {tuple(row) for row in batch.x[batch.batch == full, :3].tolist()}
    assert {*TABLE.corners(), *CHAIR.corners(), *FLOOR.corners()} <= {
        tuple(round(value, 5) for value in row) for row in points
    }
    assert batch.x[:, 3:].allclose(torch.tensor(0.2))


def test_the_training_split_tells_of_its_classes(root: Path) -> None:
    data = ready(root)
    assert data.counts.tolist() == [2, 1]
    # the chair is 0.5 x 0.5 x 1, the stool 0.5 x 1 x 0.5: the longer side comes first
    assert data.sizes.tolist() == [pytest.approx([0.75, 0.5, 0.75]), pytest.approx([1.0, 0.5, 0.5])]
    assert data.heights.tolist() == pytest.approx([0.375, 0.25])


def test_only_the_classes_that_are_asked_for_are_found(root: Path) -> None:
    data = ready(root, classes=["coffee table"])
    [batch] = data.train_dataloader()
    assert batch.boxes.tolist() == [pytest.approx([*TABLE.box])]
    assert batch.labels.tolist() == [0]
    [batch] = data.val_dataloader()
    assert batch.boxes.shape == (0, 6)
    with pytest.raises(ValueError, match=r"no object of class sofa; it has chair, coffee table\. Remove"):
        ready(root, classes=["chair", "sofa"])


def test_labels_may_be_those_of_the_benchmark(root: Path) -> None:
    assert ready(root, labels="benchmark").classes == ("chair", "table")


def test_a_validation_scene_is_as_it_is(root: Path) -> None:
    data = ready(root, augmentation=Augmentation(turn=90))
    first, second = (next(iter(data.val_dataloader())) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert first.boxes.tolist() == [pytest.approx([*CHAIR.box])]


def test_a_training_scene_depends_on_seed_epoch_and_scan_alone(root: Path) -> None:
    settings = {"augmentation": Augmentation(share=0.5), "batch_size": 1, "samples_per_epoch": 4}
    one, other = (ready(root, **settings).train_dataloader() for _ in range(2))
    first = [*one]
    assert all(torch.equal(a.x, b.x) for a, b in zip(first, other, strict=True))
    one.sampler.set_epoch(1)  # type: ignore[attr-defined]
    again = {batch.name[0]: batch for batch in islice(one, 2)}
    assert not any(
        torch.equal(batch.boxes, again[batch.name[0]].boxes) for batch in first if len(batch.boxes)
    )


def test_all_processes_together_see_each_scene_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(root, [FLOOR], "scene0003_00")
    (root / "scannetv2_val.txt").write_text("scene0001_00\nscene0002_00\nscene0003_00\n")
    trained, scored = list[str](), list[str]()
    for rank in range(2):
        data = ready(root, batch_size=1)
        monkeypatch.setattr(data, "trainer", SimpleNamespace(global_rank=rank, world_size=2))
        trained += [name for batch in data.train_dataloader() for name in batch.name]
        scored += [name for batch in data.val_dataloader() for name in batch.name]
    assert sorted(trained) == [NAME, "scene0001_00"]
    assert sorted(scored) == ["scene0001_00", "scene0002_00", "scene0003_00"]


def test_the_miniatures_rooms_can_be_trained_on(few_rooms: Path) -> None:
    data = ready(few_rooms, folder="seen", augmentation=Augmentation(points=500))
    [batch] = data.train_dataloader()
    assert batch.num_graphs == 2
    assert batch.batch.bincount().tolist() == [500, 500]
    assert len(batch.boxes) == len(batch.labels) > 10
    assert {"wall", "floor"}.isdisjoint(data.classes)


def test_splits_without_scans_or_things_are_refused(root: Path) -> None:
    (root / "scannetv2_none.txt").write_text("")
    (root / "scannetv2_bare.txt").write_text("scene0001_00\n")
    with pytest.raises(ValueError, match=r"the split none in .* has no scan"):
        ready(root, train="none")
    with pytest.raises(ValueError, match="no object of any class"):
        ready(root, train="bare")
