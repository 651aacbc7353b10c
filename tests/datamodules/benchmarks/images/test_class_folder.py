"""A tree of class folders becomes classification samples."""

from pathlib import Path

import pytest
from PIL import Image

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images.class_folder import SUFFIXES, read
from octavius.instruction.sample import ClassName, Media, Sample
from octavius.media.pictures import open_picture
from tests.datamodules.benchmarks.bad_items import kept


def write(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    return root


def test_every_image_is_a_sample_of_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "test/ship/1.png", "test/ship/0.jpg", "test/cat/9.JPEG", "train/frog/1.png")
    (tmp_path / "test" / "ship" / "notes.txt").write_text("no image")
    (tmp_path / "test" / "labels.txt").write_text("no folder")
    (tmp_path / "test" / ".hidden").mkdir()
    facts = [("cat", "9.JPEG"), ("ship", "0.jpg"), ("ship", "1.png")]
    assert read(tmp_path, "test") == [
        Sample(
            f"{name}/{file}",
            "classification",
            "class_folder",
            {"image": Media(path=tmp_path / "test" / name / file)},
            "",
            ClassName(name, ("cat", "ship")),
        )
        for name, file in facts
    ]


def test_every_format_of_pictures_that_is_read_is_found(tmp_path: Path) -> None:
    write(tmp_path, *(f"test/cat/{index}{suffix}" for index, suffix in enumerate(SUFFIXES)))
    samples = read(tmp_path, "test")
    assert len(samples) == len(SUFFIXES)
    shown = {open_picture(sample.media["image"]).size for sample in samples}
    assert shown == {(2, 2)}


def test_an_empty_class_is_bad(tmp_path: Path) -> None:
    write(tmp_path, "test/cat/1.png")
    (tmp_path / "test" / "dog").mkdir()
    [sample] = kept(
        read, tmp_path, "test", r"test, class folder 'dog': expected images \(.png, .jpg, .*\), found"
    )
    assert sample.gold == ClassName("cat", ("cat",))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    write(tmp_path, "test/cat/1.png")
    with pytest.raises(DatasetNotFoundError, match=r"val/ not found in the data folder"):
        read(tmp_path, "val")
