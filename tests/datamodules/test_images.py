"""Image sources are read lazily, once, and kept apart; missing data gives one clear message."""

import shutil
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from datamodules import source_instructions
from datamodules.images import ImageInstructions
from datamodules.sources import Source
from octavius.instruction.batch import Processor

TRAIN = [
    Source("coco_detection", "train2017", "seen/coco", 3.0),
    Source("coco_captioning", "train2017", "seen/coco"),
    Source("scienceqa", "train", "seen/scienceqa", 2.0),
    Source("class_folder", "train", "seen/classes"),
    Source("celeba_hair", "train", "seen/celeba"),
    Source("celeba_smile", "train", "seen/celeba"),
]
TEST = [
    Source(
        "voc_detection", "test", f"{world}/VOCdevkit/VOC2012", name=f"{world}_detection", unseen_wording=new
    )
    for world, new in (("seen", False), ("unseen_pairs", True), ("unseen_style", True))
]

CONFIG = """
class_path: datamodules.images.ImageInstructions
init_args:
  root: ROOT
  batch_size: 6
  train:
    - {benchmark: coco_captioning, split: train2017, folder: seen/coco, weight: 2}
    - {benchmark: scienceqa, split: train, folder: seen/scienceqa}
  validate:
    - {benchmark: voc_detection, split: val, folder: unseen_style, name: style, limit: 4}
"""


def test_a_configuration_becomes_batches(miniature_root: Path, processor: Processor) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    config = yaml.safe_load(CONFIG.replace("ROOT", str(miniature_root)))
    data = parser.instantiate(parser.parse_object({"data": config})).data
    data.processor, data.workers = processor, 0
    batches = list(data.train_dataloader())
    assert [len(batch) for batch in batches] == [6] * 6
    trained = [sample.benchmark for batch in batches for sample in batch.samples]
    assert (trained.count("coco_captioning"), trained.count("scienceqa")) == (24, 12)
    assert all(batch.media["image"].shape == (6, 3, 16, 16) for batch in batches)
    [batch] = data.val_dataloader()
    assert [sample.benchmark for sample in batch.samples] == ["voc_detection"] * 4
    assert [one.set_name for one in batch.metadata] == ["style"] * 4
    assert list(data.test_dataloader()) == []


def test_the_whole_mixture(miniature_root: Path, processor: Processor) -> None:
    data = ImageInstructions(
        str(miniature_root), TRAIN, batch_size=9, samples_per_epoch=90, workers=0, processor=processor
    )
    trained = [sample.benchmark for batch in data.train_dataloader() for sample in batch.samples]
    assert {name: trained.count(name) for name in trained} == {
        source.benchmark: int(source.weight * 10) for source in TRAIN
    }


def test_sets_of_an_evaluation_have_their_names(miniature_root: Path) -> None:
    data = ImageInstructions(str(miniature_root), test=TEST)
    sets = data.eval_sets("test")
    assert [item.name for item in sets] == [
        "seen_detection",
        "unseen_pairs_detection",
        "unseen_style_detection",
    ]
    assert [item.unseen_wording for item in sets] == [False, True, True]
    assert [item.protocol for item in sets] == ["standard"] * 3
    assert {len(item.samples) for item in sets} == {10}
    assert data.eval_sets("validate") == []


def test_annotations_are_read_once_and_pictures_not_at_all(
    miniature_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(miniature_root, root, copy_function=shutil.copy)
    for picture in (*root.rglob("*.jpg"), *root.rglob("*.png")):
        picture.write_bytes(b"")
    calls = []
    read = source_instructions.read
    monkeypatch.setattr(source_instructions, "read", lambda *args: calls.append(args) or read(*args))
    data = ImageInstructions(str(root), TRAIN, TEST, TEST)
    assert calls == []
    for _ in range(2):
        assert [len(item.samples) for item in data.train_sets()] == [20] * 6
        for stage in ("validate", "test"):
            assert len(data.eval_sets(stage)) == 3
    assert len(calls) == len(TRAIN) + len(TEST)


def test_a_limit_keeps_the_same_samples_in_every_run(miniature_root: Path) -> None:
    def kept(limit: int | None, seed: int = 0) -> list[str]:
        data = ImageInstructions(str(miniature_root), seed=seed)
        source = Source("scienceqa", "train", "seen/scienceqa", limit=limit)
        return [sample.id for sample in data.samples(source)]

    everything = kept(None)
    assert kept(20) == kept(99) == everything
    some = kept(7)
    assert len(set(some)) == 7
    assert some == [key for key in everything if key in some], "in the data set's order"
    assert some != everything[:7], "by chance, not the first"
    assert some == kept(7, seed=1)


def test_bad_items_stop_or_are_left_out(miniature_root: Path, tmp_path: Path) -> None:
    shutil.copytree(miniature_root / "seen/celeba", tmp_path / "celeba")
    table = tmp_path / "celeba/list_attr_celeba.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:2], lines[2] + " 1", *lines[3:]]))
    source = Source("celeba_smile", "train", "celeba")
    with pytest.raises(ValueError, match="bad=skip"):
        ImageInstructions(str(tmp_path)).samples(source)
    with pytest.warns(UserWarning, match="1 bad item left out"):
        assert len(ImageInstructions(str(tmp_path), bad="skip").samples(source)) == 19


def test_missing_data_is_told(tmp_path: Path, miniature_root: Path) -> None:
    data = ImageInstructions(str(tmp_path / "nothing"), TRAIN)
    with pytest.raises(ValueError, match=r"the data folder .*nothing does not exist") as error:
        data.train_sets()
    for word in ("coco_detection", "seen/coco", "--data.init_args.root", "MiniatureImages"):
        assert word in str(error.value)
    data = ImageInstructions(str(miniature_root), [Source("scienceqa", "train", "seen/science")])
    with pytest.raises(
        ValueError, match=r"the folder .*seen/science does not exist; scienceqa \(split train\)"
    ):
        data.train_sets()
    with pytest.raises(ValueError, match="nothing to train on; list sources under"):
        ImageInstructions(str(miniature_root)).train_sets()


def test_what_cannot_be_right_is_refused_before_any_file_is_read() -> None:
    with pytest.raises(
        ValueError, match="unknown benchmark 'coco'; known ones are celeba_hair, celeba_smile"
    ):
        Source("coco", "train2017")
    with pytest.raises(ValueError, match="the weight of scienceqa should be positive, found 0"):
        Source("scienceqa", "train", weight=0)
    with pytest.raises(ValueError, match="the weight of scienceqa should be positive, found nan"):
        Source("scienceqa", "train", weight=float("nan"))
    with pytest.raises(ValueError, match="the limit of few should be at least 1 or null, found 0"):
        Source("scienceqa", "train", name="few", limit=0)
    twice = [Source("scienceqa", "val", folder) for folder in ("seen", "unseen")]
    ImageInstructions("root", train=twice)
    for stage in ("validate", "test"):
        with pytest.raises(ValueError, match=f"several {stage} sources are named scienceqa; set `name`"):
            ImageInstructions("root", **{stage: twice})  # type: ignore[arg-type]
