"""The miniature's rooms become batches of clouds, kept apart by set, each with its protocol."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from datamodules.clouds import CloudInstructions
from datamodules.sources import Source
from octavius.instruction.batch import Processor
from tests.datamodules.fewer_points import POINTS

CONFIG = """
class_path: datamodules.clouds.CloudInstructions
init_args:
  root: ROOT
  batch_size: 6
  samples_per_epoch: 36
  workers: 0
  train:
    - {benchmark: scanrefer_captioning, split: train, folder: seen, weight: 2}
    - {benchmark: scanqa, split: train, folder: seen}
    - {benchmark: scannet_classification, split: train, folder: seen}
    - {benchmark: scanrefer_dense_captioning, split: train, folder: seen, weight: 0.5}
    - {benchmark: shapenet_classification, split: train, folder: seen, weight: 0.5}
  validate:
    - {benchmark: nr3d_captioning, split: val, folder: seen, name: usual, limit: 3}
    - {benchmark: nr3d_captioning, split: val, folder: seen, name: paper, limit: 3, protocol: published}
  test:
    - {benchmark: shapenet_classification, split: test, folder: unseen_classes, unseen_wording: true}
"""


@pytest.fixture
def data(few_rooms: Path, cloud_processor: Processor) -> CloudInstructions:
    """What the configuration says."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    config = yaml.safe_load(CONFIG.replace("ROOT", str(few_rooms)))
    made: CloudInstructions = parser.instantiate(parser.parse_object({"data": config})).data
    made.processor = cloud_processor
    return made


def test_a_configuration_becomes_batches(data: CloudInstructions) -> None:
    batches = list(data.train_dataloader())
    assert [batch.media["cloud"].shape for batch in batches] == [(6, POINTS, 6)] * 6
    trained = [sample.task for batch in batches for sample in batch.samples]
    assert {task: trained.count(task) for task in trained} == {
        "captioning3d": 14,
        "vqa3d": 7,
        "classification3d": 11,
        "dense_captioning3d": 4,
    }
    [batch] = data.test_dataloader()
    assert {sample.benchmark for sample in batch.samples} == {"shapenet_classification"}


def test_sets_name_their_protocol(data: CloudInstructions) -> None:
    [batch] = data.val_dataloader()
    protocols = [sample.protocol for sample in batch.samples]
    named = list(zip([one.set_name for one in batch.metadata], protocols, strict=True))
    assert named == [("usual", "standard")] * 3 + [("paper", "published")] * 3
    usual, paper = ([item.id for item in batch.samples[first : first + 3]] for first in (0, 3))
    assert usual == paper


def test_objects_are_meant_and_scenes_bring_all_their_boxes(data: CloudInstructions) -> None:
    for sample in data.samples_of("fit"):
        media = sample.media["cloud"]
        whole_scene = sample.task in ("vqa3d", "dense_captioning3d")
        assert (media.region is None) == whole_scene
        assert (media.objects is not None) == whole_scene
        assert media.objects is None or len(media.objects) > 4


def test_samples_of_a_stage_are_those_of_its_sets(data: CloudInstructions) -> None:
    def benchmarks(stage: str) -> set[str]:
        return {sample.benchmark for sample in data.samples_of(stage)}

    trained = {source.benchmark for source in data.train}
    assert benchmarks("fit") == trained | {"nr3d_captioning"}
    assert benchmarks("validate") == {"nr3d_captioning"}
    assert benchmarks("test") == {"shapenet_classification"}
    assert sum(1 for _ in data.samples_of("validate")) == 6


def test_pictures_and_clouds_may_stand_side_by_side(miniature_root: Path, few_rooms: Path) -> None:
    """A source is one of any benchmark: the two data modules differ in name alone."""
    root = few_rooms.parent.parent
    pictures = Source("class_folder", "val", str((miniature_root / "seen/classes").relative_to(root)))
    rooms = Source("scanqa", "val", str((few_rooms / "seen").relative_to(root)))
    sets = CloudInstructions(str(root), test=[pictures, rooms]).eval_sets("test")
    assert [item.name for item in sets] == ["class_folder", "scanqa"]
