"""CIFAR-10's pickles, byte by byte as they are published, become pictures with their classes."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.benchmarks import read as read_checked
from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images.cifar10 import CLASSES, read
from octavius.instruction.sample import ClassName
from octavius.media.images import ImageLoader
from tests.datamodules.benchmarks import cifar_files as files
from tests.datamodules.benchmarks.bad_items import kept

RED_TOP = bytes([255] * 32 + [0] * (1024 - 32) + [7] * 1024 + [9] * 1024)  # its first row is red
RAMP = bytes(place % 251 for place in range(3072))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return files.write(tmp_path / "cifar-10-batches-py", [RED_TOP, RAMP], [3, 9]).parent


@pytest.mark.parametrize("inner", [".", "cifar-10-batches-py"])
def test_pictures_are_told_plane_by_plane(root: Path, inner: str) -> None:
    cat, truck = read(root / inner, "test")
    assert (cat.gold, truck.gold) == (ClassName("cat", CLASSES), ClassName("truck", CLASSES))
    assert (cat.id, truck.id, cat.task, cat.question) == (
        "test_batch-0",
        "test_batch-1",
        "classification",
        "",
    )
    picture, ramp = cat.media["image"].array, truck.media["image"].array
    assert picture is not None
    assert ramp is not None
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    assert picture[0, 5].tolist() == [255, 7, 9]
    assert picture[1, 5].tolist() == [0, 7, 9]
    for row, column, plane in [(0, 0, 0), (3, 17, 1), (31, 31, 2), (20, 4, 0)]:
        assert ramp[row, column, plane] == RAMP[1024 * plane + 32 * row + column]


def test_training_has_five_batches_with_ids_of_their_own(root: Path) -> None:
    samples = read_checked("cifar10", root, "train")  # it refuses ids that repeat
    assert [sample.id for sample in samples[::2]] == [f"data_batch_{number}-0" for number in range(1, 6)]


def test_a_loader_takes_the_pictures(root: Path) -> None:
    loader = ImageLoader(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert loader(read(root, "test")[0].media["image"]).shape == (3, 8, 8)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", [str, str.encode])
def test_files_pickled_anew_are_the_same(root: Path, protocol: int, form: Callable[[str], Any]) -> None:
    before = read(root, "test")
    data = np.frombuffer(RED_TOP + RAMP, np.uint8).reshape(2, 3072)
    batch = {"data": data, "labels": [3, 9], "filenames": [form("a"), form("b")], "batch_label": form("")}
    meta = {"num_cases_per_batch": 2, "label_names": [form(name) for name in CLASSES], "num_vis": 3072}
    for name, content in (("test_batch", batch), ("batches.meta", meta)):
        anew = {form(key): value for key, value in content.items()}
        (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(anew, protocol))
    after = read(root, "test")
    assert after == before
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old.media["image"].array, new.media["image"].array)  # type: ignore[arg-type]


def test_labels_may_be_an_array(root: Path) -> None:
    before = read(root, "test")
    data = np.frombuffer(RED_TOP + RAMP, np.uint8).reshape(2, 3072)
    content = {"data": data, "labels": np.array([3, 9])}
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content))
    assert read(root, "test") == before


def test_a_label_of_no_class_takes_its_picture_alone(root: Path) -> None:
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(files.batch([RED_TOP, RAMP], [10, 9]))
    [left] = kept(read, root, "test", r"test_batch, image 0: its label should be 0 to 9, found 10")
    assert left.id == "test_batch-1"


def with_batch(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "test_batch").write_bytes(content)


def with_meta(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "batches.meta").write_bytes(content)


WHOLE = files.batch([RED_TOP, RAMP], [3, 9])
DAMAGE = {
    "cut short": (
        with_batch(WHOLE[:-3000]),
        r"test_batch is not a pickle that can be read safely: .*copy it again",
    ),
    "too few": (
        with_batch(files.batch([RED_TOP], [3])),
        "expected 2 images as batches.meta says, found 1 images and 1 labels",
    ),
    "too few labels": (with_batch(files.batch([RED_TOP, RAMP], [3])), "found 2 images and 1 labels"),
    "other pictures": (
        with_batch(files.batch([b"12", b"34"], [3, 9])),
        r"uint8 \(N, 3072\), found uint8 \(2, 2\)",
    ),
    "no pictures": (with_batch(files.record(labels=files.several([]))), "as 'data', .* found None"),
    "another data set": (
        with_batch(files.record(data=files.bytes_array([RED_TOP]), fine_labels=files.several([]))),
        r"expected a list 'labels'; found the keys \['data', 'fine_labels'\]",
    ),
    "other classes": (
        with_meta(files.meta(2, ["apple"])),
        "label_names airplane, .*found .'apple'.; is it CIFAR-10",
    ),
    "no number": (with_meta(files.meta(0)), "num_cases_per_batch should be a positive whole number, found 0"),
    "an extra batch": (
        lambda folder: (folder / "data_batch_6").write_bytes(WHOLE),
        "holds data_batch_6, which CIFAR-10 does not have",
    ),
}


@pytest.mark.parametrize("bad", ["error", "skip"])
@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_end_the_reading(root: Path, case: str, bad: str) -> None:
    damage, message = DAMAGE[case]
    damage(root / "cifar-10-batches-py")
    with pytest.raises(ValueError, match=message):
        read(root, "test", bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("split", "missing"), [("train", "data_batch_4"), ("test", "test_batch"), ("test", "batches.meta")]
)
def test_missing_files_are_named(root: Path, split: str, missing: str) -> None:
    (root / "cifar-10-batches-py" / missing).unlink()
    with pytest.raises(DatasetNotFoundError, match=f"{missing}.* not found"):
        read(root, split)


def test_an_unknown_split_is_told(root: Path) -> None:
    with pytest.raises(ValueError, match="CIFAR-10 has no split 'val'; it has train, test"):
        read(root, "val")
