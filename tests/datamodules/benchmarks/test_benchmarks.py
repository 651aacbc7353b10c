"""The dictionary of benchmarks, and what holds for every reader in it."""

import json
from pathlib import Path

import pytest

from datamodules.benchmarks import BENCHMARKS, DatasetNotFoundError, read
from datamodules.benchmarks.base import LeftOutWarning
from octavius.instruction.sample import References


def write_captions(root: Path, images: list[int], captions: list[int]) -> Path:
    (root / "annotations").mkdir()
    (root / "val2017").mkdir()
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 4, "height": 4} for n in images],
        "annotations": [{"id": n, "image_id": n, "caption": "A cat."} for n in captions],
    }
    (root / "annotations" / "captions_val2017.json").write_text(json.dumps(content))
    return root


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"unknown benchmark 'imagenet'; known ones are celeba_hair, .*voc_detection"
    ):
        read("imagenet", tmp_path, "val")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_root_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetNotFoundError, match="nowhere does not exist") as caught:
        read(name, tmp_path / "nowhere", "val")
    assert "Expected layout:\n  <root>/" in str(caught.value)


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "flickr30k-images").mkdir()
    images = [
        {"filename": name, "split": "test", "sentences": [{"raw": text}]}
        for name, text in (("1.jpg", "A cat."), ("2.jpg", "A dog."), ("1.jpg", "A cow."))
    ]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    with pytest.raises(
        ValueError, match=r"sample '1\.jpg': its id occurs more than once in flickr30k, split 'test'"
    ):
        read("flickr30k", tmp_path, "test")
    with pytest.warns(LeftOutWarning, match="1 bad item left out"):
        samples = read("flickr30k", tmp_path, "test", bad="skip")
    assert [sample.gold for sample in samples] == [References(("A cat.",)), References(("A dog.",))]


def test_a_gold_that_no_answer_can_say_is_told_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 4, "height": 4} for n in (1, 2)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": n, "bbox": [0, 0, 2, 2], "iscrowd": 0} for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "light, red"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"sample '1'.*the label 'light, red' could not be read back"):
        read("coco_detection", tmp_path, "val2017")
    with pytest.warns(LeftOutWarning, match="1 bad item left out .*light, red"):
        assert [sample.id for sample in read("coco_detection", tmp_path, "val2017", bad="skip")] == ["2"]


def test_no_sample_is_an_error(tmp_path: Path) -> None:
    write_captions(tmp_path, [1], [])
    with pytest.raises(ValueError, match="coco_captioning, split 'val2017': no sample found under"):
        read("coco_captioning", tmp_path, "val2017")


@pytest.mark.parametrize(
    ("name", "folder", "split"),
    [
        ("coco_detection", "coco-tiny", "val2017"),
        ("coco_captioning", "coco-tiny", "train2017"),
        ("voc_detection", "voc2007-tiny", "test"),
    ],
)
def test_real_samples_bear_the_name_of_their_benchmark(
    shared_data: Path, name: str, folder: str, split: str
) -> None:
    samples = read(name, shared_data / folder, split)
    assert {sample.benchmark for sample in samples} == {name}
    assert len({sample.id for sample in samples}) == len(samples)
