"""Training of detectors on toy scenes: parameters, scores, logs and saved files."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Batch, Data

from octavius.boxes3d import iou3d
from octavius.encoders.detector.detector import (
    CONFIG,
    WEIGHTS,
    Design,
    HeadName,
    load_detector,
    save_detector,
)
from octavius.folders import LIST
from octavius.media.proposals import read_proposals
from octavius.metrics.boxes.detection3d import ClassScore
from octavius.pretraining.detector import GUESSES, MOST, DetectorModule, guessed, table, truths
from tests.octavius.encoders.detector.toys import BOXES, CLASSES, LABELS, TINY, detector, scene

KEYS = {"val/map25", "val/mar25", "val/map50", "val/mar50"}


def batch(*kept: list[int]) -> Batch:
    """Scenes with some of the toy's boxes each."""
    items = []
    for number, rows in enumerate(kept):
        boxes, labels = BOXES[rows].reshape(-1, 6), LABELS[rows]
        items.append(Data(x=scene(boxes, labels, 60, number), boxes=boxes, labels=labels))
    return Batch.from_data_list(items, follow_batch=["boxes"])


def loader(batches: list[Batch]) -> DataLoader[Any]:
    """Hands out ready batches."""
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class Toys(lightning.LightningDataModule):
    """Ready batches, and what a data module tells of them."""

    classes: tuple[str, ...] = CLASSES
    counts = torch.tensor([3, 1])
    sizes = torch.tensor([[0.8, 0.8, 0.8], [1.2, 0.8, 0.6]])
    heights = torch.tensor([0.4, 0.3])

    def train_dataloader(self) -> DataLoader[Any]:
        return loader([batch([0, 1], [1]), batch([], [0])])

    def val_dataloader(self) -> DataLoader[Any]:
        return loader([batch([0, 1], [])])

    test_dataloader = val_dataloader


def trainer(folder: Path) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        gradient_clip_val=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.mark.parametrize("head", ["fcaf3d", "tr3d"])
def test_a_fit_scores_each_epoch_and_writes_the_detector(
    head: HeadName, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = DetectorModule(head, TINY, save_to=str(tmp_path / "made"), nms="bev", lr=1e-2)
    running = trainer(tmp_path)
    running.fit(module, Toys())
    assert {"train/class", "train/box", "train/loss", *KEYS} <= {*running.callback_metrics}
    assert all(running.callback_metrics[key] >= 0 for key in KEYS)  # not nan
    told = capsys.readouterr().out
    assert told.count("AP@0.25") == 2
    assert told.count(f"{GUESSES} guesses a scene") == 1
    assert {file.name for file in (tmp_path / "made").iterdir()} == {CONFIG, WEIGHTS, LIST}
    loaded = load_detector(tmp_path / "made")
    assert (loaded.classes, loaded.detector, loaded.design) == (CLASSES, head, TINY)
    assert module.detector.nms == "bev"
    learnt = module.detector.state_dict()
    assert all(
        torch.allclose(value.float(), learnt[name].float(), atol=1e-2, rtol=1e-2)
        for name, value in loaded.state_dict().items()
    )


def test_classes_are_found_at_levels_of_their_sizes(tmp_path: Path) -> None:
    data = Toys()
    data.sizes = torch.tensor([[0.8, 0.8, 9.0], [9.0, 0.8, 0.6]])  # a pole, and a wall's length
    module = DetectorModule("tr3d", Design(0.1, (4, 4, 4), (1, 1, 1), 4, pool=False, channels=4, skip=0))
    module.trainer = trainer(tmp_path)
    module.trainer.datamodule = data  # type: ignore[attr-defined]
    module.setup("fit")
    assert module.detector.level_spacings == pytest.approx((0.4, 0.8))
    assert module.detector.class_levels == (0, 1)


def test_validation_alone_scores_the_folders_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    made = detector("tr3d")
    with torch.no_grad():
        made.head.conv_cls.kernel.normal_()  # it finds something, right or wrong
    save_detector(made, tmp_path / "made")
    module = DetectorModule("fcaf3d", weights=str(tmp_path / "made"), design=TINY)
    for stage, run in (("val", trainer(tmp_path).validate), ("test", trainer(tmp_path).test)):
        [figures] = run(module, datamodule=Toys(), verbose=False)
        assert {*figures} == {key.replace("val", stage) for key in KEYS}
        assert module.detector.detector == "tr3d"
    assert capsys.readouterr().out.count("AP@0.25") == 2


class Named(Toys):
    """Scans with names."""

    def test_dataloader(self) -> DataLoader[Any]:
        scenes = batch([0, 1], [])
        scenes.name = ["scene0", "scene1"]
        return loader([scenes])


def test_a_test_leaves_the_surest_boxes_of_each_scan(tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = detector("tr3d")
    with torch.no_grad():
        made.head.conv_cls.kernel.normal_()
    save_detector(made, tmp_path / "made")
    module = DetectorModule("tr3d", TINY, weights=str(tmp_path / "made"), boxes=str(tmp_path / "boxes"))
    trainer(tmp_path).validate(module, datamodule=Named(), verbose=False)
    assert not (tmp_path / "boxes").exists()
    trainer(tmp_path).test(module, datamodule=Named(), verbose=False)
    assert sorted(file.name for file in (tmp_path / "boxes").iterdir()) == ["scene0.npz", "scene1.npz"]
    boxes, scores = read_proposals(tmp_path / "boxes" / "scene0.npz")
    assert 0 < len(boxes) <= MOST
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    shared = iou3d(boxes[:, None], boxes)
    np.fill_diagonal(shared, 0)
    assert shared.max() <= 0.25


def test_a_trained_module_is_scored_as_it_is(tmp_path: Path) -> None:
    module = DetectorModule("tr3d", TINY, weights=str(tmp_path / "none"), save_to=str(tmp_path / "made"))
    running = trainer(tmp_path)
    running.fit(module, Toys())
    trained = module.detector
    trainer(tmp_path).validate(module, datamodule=Toys(), verbose=False)
    assert module.detector is trained


def test_a_folder_of_other_classes_is_refused(tmp_path: Path) -> None:
    save_detector(detector("tr3d"), tmp_path / "made")
    data = Toys()
    data.classes = ("cube", "ball")
    module = DetectorModule("tr3d", TINY, weights=str(tmp_path / "made"))
    with pytest.raises(ValueError, match=r"differ in the classes ball, slab; name the detector's"):
        trainer(tmp_path).validate(module, datamodule=data, verbose=False)


def test_data_that_tell_nothing_of_their_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs the attributes classes, counts, sizes, heights; take"):
        trainer(tmp_path).fit(DetectorModule("tr3d", TINY), loader([batch([0])]))


def test_truths_are_told_scene_by_scene() -> None:
    found = truths(batch([0, 1], [], [1]))
    assert [labels.tolist() for _, labels in found] == [[0, 1], [], [1]]
    assert torch.equal(found[2][0], BOXES[1:])


def test_guesses_follow_what_training_tells() -> None:
    points = torch.cat([torch.rand(50, 3) * torch.tensor([4.0, 2.0, 3.0]), torch.rand(50, 3)], 1)
    rng = torch.Generator().manual_seed(0)
    many = [guessed(points, Toys(), rng) for _ in range(30)]
    labels = torch.cat([one.labels for one in many])
    assert labels.float().mean() == pytest.approx(0.25, abs=0.03)  # one thing of four is a slab
    boxes = torch.cat([one.boxes for one in many])
    slabs: Tensor = boxes[labels == 1]
    assert {*map(tuple, slabs[:, 3:].tolist())} == {
        tuple(torch.tensor(size).tolist()) for size in ([1.2, 0.8, 0.6], [0.8, 1.2, 0.6])
    }
    assert bool((slabs[:, 2] == torch.tensor(0.3)).all())
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    assert ((boxes[:, :2] >= low) & (boxes[:, :2] <= high)).all()


def test_the_table_begins_with_the_best_class() -> None:
    first = {"bed": ClassScore(0.25, 0.5, 2), "tv": ClassScore(0.75, 1.0, 9)}
    second = {"bed": ClassScore(0.125, 0.5, 2), "tv": ClassScore(0.5, 1.0, 9)}
    assert [line.split() for line in table([first, second])] == [
        ["class", "objects", "AP@0.25", "AP@0.5", "recall"],
        ["tv", "9", "0.750", "0.500", "1.000"],
        ["bed", "2", "0.250", "0.125", "0.500"],
        ["all", "classes", "11", "0.500", "0.312", "0.750"],
    ]
