"""Flickr30k's captions, in Karpathy's JSON and as a token file, become the same samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images.flickr30k import read, read_tokens
from octavius.instruction.sample import Media, References, Sample
from tests.datamodules.benchmarks.bad_items import kept

CAPTIONS = {
    "1000092795.jpg": ("test", ["Two young guys .", "Two young , White males are outside ."]),
    "10002456.jpg": ("train", ["Several men in hard hats ."]),
    "4930000000.jpg": ("test", ["A dog # runs .", "A brown dog ."]),
}


def image(name: str, split: str, texts: list[str], **changes: Any) -> dict[str, Any]:
    sentences = [{"tokens": text.lower().split(), "raw": text, "imgid": 0, "sentid": 0} for text in texts]
    return {"sentids": [0], "imgid": 0, "sentences": sentences, "split": split, "filename": name, **changes}


def write_json(root: Path, *extra: Any) -> Path:
    (root / "flickr30k-images").mkdir(exist_ok=True)
    records = [*extra, *(image(name, split, texts) for name, (split, texts) in CAPTIONS.items())]
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": records, "dataset": "flickr30k"}))
    return root


def write_tokens(root: Path, *extra: str) -> Path:
    (root / "flickr30k-images").mkdir(exist_ok=True)
    lines = [f"{name}#{n}\t{text}" for name, (_, texts) in CAPTIONS.items() for n, text in enumerate(texts)]
    (root / "results_20130124.token").write_text("\n".join([*extra, *lines]) + "\n")
    (root / "test.txt").write_text("1000092795\n4930000000\n")
    return root


def sample(root: Path, name: str, images: str = "flickr30k-images") -> Sample:
    media = {"image": Media(path=root / images / name)}
    return Sample(name, "captioning", "flickr30k", media, "", References(tuple(CAPTIONS[name][1])))


def test_both_layouts_state_the_same(tmp_path: Path) -> None:
    write_tokens(write_json(tmp_path))
    expected = [sample(tmp_path, "1000092795.jpg"), sample(tmp_path, "4930000000.jpg")]
    assert read(tmp_path, "test") == expected
    assert read_tokens(tmp_path, "test") == expected
    assert [found.id for found in read(tmp_path, "train")] == ["10002456.jpg"]
    assert [found.id for found in read_tokens(tmp_path, "all")] == list(CAPTIONS)


def test_lists_may_lie_with_flickr30k_entities_and_pictures_in_a_folder_of_another_name(
    tmp_path: Path,
) -> None:
    write_tokens(tmp_path)
    (tmp_path / "flickr30k_entities").mkdir()
    (tmp_path / "test.txt").unlink()
    (tmp_path / "flickr30k_entities" / "val.txt").write_text("10002456\n")
    (tmp_path / "flickr30k-images").rename(tmp_path / "images")
    assert read_tokens(tmp_path, "val") == [sample(tmp_path, "10002456.jpg", "images")]


BAD_IMAGES = {
    "not an image": ("text", "expected an object with the key 'split'"),
    "no split": (image("a.jpg", " ", ["A."]), "'split' is empty"),
    "no captions": (image("a.jpg", "test", []), "the image 'a.jpg' has no caption"),
    "no raw caption": (
        image("a.jpg", "test", ["A."], sentences=[{"tokens": []}]),
        "the key 'raw' is missing",
    ),
    "an empty caption": (image("a.jpg", "test", ["A.", " "]), "'raw' is empty"),
    "no name": (image("a.jpg", "test", ["A."], filename=7), "'filename' should be a string, found 7"),
    "escape": (image("../a.jpg", "test", ["A."]), "leads out of the data folder"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(tmp_path: Path, case: str) -> None:
    bad, message = BAD_IMAGES[case]
    left = kept(
        read, write_json(tmp_path, bad), "test", r"dataset_flickr30k\.json, images\[0\]: .*" + message
    )
    assert [found.id for found in left] == ["1000092795.jpg", "4930000000.jpg"]


BAD_LINES = {
    "no tab": ("a.jpg#0 A dog .", "expected <image>#<number>, a tab and a caption, found 'a.jpg#0 A dog"),
    "no number": ("a.jpg\tA dog .", "expected <image>#<number>"),
    "no caption": ("a.jpg#0\t ", "expected <image>#<number>, a tab and a caption"),
    "said twice": (
        "4930000000.jpg#1\tA cat .",
        "caption 1 of 4930000000.jpg occurs twice, with different words",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines(tmp_path: Path, case: str) -> None:
    bad, message = BAD_LINES[case]
    left = kept(
        read_tokens, write_tokens(tmp_path, bad), "test", r"results_20130124\.token, line \d: .*" + message
    )
    assert [found.id for found in left] == ["1000092795.jpg", "4930000000.jpg"]


def test_a_listed_image_without_captions_is_bad(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    (tmp_path / "test.txt").write_text("77\n4930000000\n")
    message = r"test.txt line 1: results_20130124\.token has no caption of the image '77\.jpg'"
    [left] = kept(read_tokens, tmp_path, "test", message)
    assert left.id == "4930000000.jpg"


def test_an_unknown_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no split 'dev'; it has \['test', 'train'\]"):
        read(write_json(tmp_path), "dev")
    with pytest.raises(DatasetNotFoundError, match=r"dev\.txt and flickr30k_entities/dev\.txt not found"):
        read_tokens(write_tokens(tmp_path), "dev")


def test_the_token_file_is_read_where_the_json_is_missing(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    assert read(tmp_path, "test") == read_tokens(tmp_path, "test")
    write_json(tmp_path)
    assert [found.id for found in read(tmp_path, "train")] == ["10002456.jpg"]  # of which there is no list


def test_another_file_is_told(tmp_path: Path) -> None:
    write_json(tmp_path)
    (tmp_path / "dataset_flickr30k.json").write_text('{"annotations": []}')
    with pytest.raises(ValueError, match=r"the key 'images' is missing; .* Is it Karpathy's file"):
        read(tmp_path, "test")


@pytest.mark.parametrize("missing", ["dataset_flickr30k.json", "flickr30k-images/"])
def test_missing_files_are_named(tmp_path: Path, missing: str) -> None:
    path = write_json(tmp_path) / missing
    path.rmdir() if missing.endswith("/") else path.unlink()
    with pytest.raises(DatasetNotFoundError, match=missing):
        read(tmp_path, "test")
