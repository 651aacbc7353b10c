"""Folders of clouds become samples of single objects, named by their folders."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.modelnet import read
from octavius.instruction.sample import ClassName, Media, Region, Sample
from octavius.media.clouds import CloudLoader
from tests.datamodules.benchmarks.bad_items import kept


def write(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / file, np.array([[0, 0, 0], [0, 0, 1]], "float32"))
    return root


def test_clouds_become_samples(tmp_path: Path) -> None:
    write(tmp_path, "night_stand/test/b.npy", "night_stand/test/a.npy", "bed/test/c.npy", "bed/train/d.npy")
    (tmp_path / "bed" / "test" / "notes.txt").write_text("no cloud")
    samples = read(tmp_path, "test")
    assert [sample.id for sample in samples] == ["bed/c.npy", "night_stand/a.npy", "night_stand/b.npy"]
    names, key = ("bed", "night stand"), "night_stand/a.npy"
    media = Media(path=tmp_path / "night_stand" / "test" / "a.npy", region=Region(key, None))
    gold = ClassName("night stand", names)
    assert samples[1] == Sample(
        key, "classification3d", "modelnet_classification", {"cloud": media}, "", gold
    )


@pytest.mark.parametrize(("up", "expected"), [("z", [0, 0, 1]), ("y", [0, -1, 0])])
def test_the_axis_that_points_up(tmp_path: Path, up: str, expected: list[float]) -> None:
    [sample] = read(write(tmp_path, "bed/test/c.npy"), "test", up=up)  # type: ignore[arg-type]
    assert CloudLoader()(sample.media["cloud"])[1, :3].tolist() == expected


def test_a_class_without_a_cloud_is_a_bad_item(tmp_path: Path) -> None:
    write(tmp_path, "bed/test/c.npy")
    (tmp_path / "chair" / "test").mkdir(parents=True)
    [sample] = kept(
        read, tmp_path, "test", r"class folder 'chair': expected clouds \(\.npy\) in .*chair/test, found none"
    )
    assert sample.gold == ClassName("bed", ("bed",))


def test_a_missing_split_is_told(tmp_path: Path) -> None:
    write(tmp_path, "bed/test/c.npy")
    with pytest.raises(DatasetNotFoundError, match="<class_name>/train/ not found in the data folder"):
        read(tmp_path, "train")


def test_a_file_that_can_be_no_cloud_is_a_bad_item(tmp_path: Path) -> None:
    write(tmp_path, "bed/test/c.npy", "bed/test/d.npy")
    np.save(tmp_path / "bed/test/c.npy", np.zeros((0, 3), "float32"))
    [sample] = kept(
        read, tmp_path, "test", r"the object bed/c\.npy: .*c\.npy: expected at least 2 points, found 0"
    )
    assert sample.id == "bed/d.npy"
