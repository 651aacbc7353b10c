"""Stored features and corners become ragged batches of features and boxes; mismatches are reported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import Media
from octavius.media.rois import StoredRoiLoader, box_of, rois_of

LOAD = StoredRoiLoader(width=4)


def store(root: Path, name: str, feature: object, corners: object) -> Path:
    """One object of the scene s."""
    for kind, content in (("ins_pc_feat", feature), ("bbox", corners)):
        (root / kind / "s").mkdir(parents=True, exist_ok=True)
        if content is not None:
            np.save(root / kind / "s" / f"{name}.npy", np.asarray(content))
    return root / "ins_pc_feat" / "s" / f"{name}.npy"


def corners(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    sides = [(a, b) for a, b in zip(low, high, strict=True)]
    return np.array([(x, y, z) for x in sides[0] for y in sides[1] for z in sides[2]])


BOX = corners((1, 2, 3), (3, 6, 4))


def test_one_object_and_all_of_a_scene(tmp_path: Path) -> None:
    second = store(tmp_path, "10-coffee_table", np.float16([[5, 6, 7, 8]]), BOX)
    first = store(tmp_path, "1-v1.2 chair", np.float32([1, 2, 3, 4]), corners((0, 0, 0), (2, 2, 2)))
    rows = {first: ([1.0, 2, 3, 4], [1.0, 1, 1, 2, 2, 2]), second: ([5.0, 6, 7, 8], [2, 4, 3.5, 2, 4, 1])}
    for file, (feature, box) in rows.items():
        found = LOAD(Media(path=file))
        assert (found.x.tolist(), found.boxes.tolist()) == ([feature], [box])
        assert found.x.dtype == found.boxes.dtype == torch.float32
    found = LOAD(Media(path=first.parent))
    assert found.x.tolist() == [feature for feature, _ in rows.values()]
    assert found.boxes.tolist() == [box for _, box in rows.values()]
    assert box_of(second) == (2, 4, 3.5, 2, 4, 1)


def test_a_scene_in_which_nothing_was_found(tmp_path: Path) -> None:
    (tmp_path / "ins_pc_feat" / "s").mkdir(parents=True)
    found = LOAD(Media(path=tmp_path / "ins_pc_feat" / "s"))
    assert (found.x.shape, found.boxes.shape) == ((0, 4), (0, 6))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_a_batch_keeps_the_rois_of_each_medium_apart(counts: list[int]) -> None:
    items = [rois_of(torch.randn(count, 4), torch.rand(count, 6)) for count in counts]
    batch = LOAD.collate(items)
    assert batch.num_graphs == len(counts)
    assert batch.num_nodes == sum(counts)
    assert batch.ptr.diff().tolist() == counts
    for number, item in enumerate(items):
        mine = batch.batch == number
        assert torch.equal(batch.x[mine], item.x)
        assert torch.equal(batch.boxes[mine], item.boxes)


FEATURE = np.zeros(4, "float32")
BAD = {
    "another width": (np.zeros(5, "float32"), BOX, r"expected 4 numbers, .* found float32 \(5,\)"),
    "whole numbers": (np.zeros(4, "int64"), BOX, "expected 4 numbers"),
    "feature not finite": (
        np.float32([1, 2, 3, np.nan]),
        BOX,
        "the feature holds numbers that are not finite",
    ),
    "feature beyond single precision": (
        np.array([1, 2, 3, 1e300]),
        BOX,
        "the feature holds numbers that are not finite",
    ),
    "box beyond all measure": (FEATURE, BOX * 0 + 1e300, "lie beyond 1e.09 metres"),
    "no box": (FEATURE, None, r"no file at .*bbox/s/1-chair\.npy"),
    "box of two axes": (
        FEATURE,
        np.zeros((8, 2)),
        r"its box should be corners \(N, 3\), found float64 \(8, 2\)",
    ),
    "box of no corner": (FEATURE, np.zeros((0, 3)), r"found float64 \(0, 3\)"),
    "box not finite": (FEATURE, BOX * np.inf, "the corners of its box in bbox are not all finite"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_files(tmp_path: Path, case: str) -> None:
    feature, box, message = BAD[case]
    file = store(tmp_path, "1-chair", feature, box)
    with pytest.raises(ValueError, match=message):
        LOAD(Media(path=file))


def test_missing_features_and_arrays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no stored features at .*gone; check the data root"):
        LOAD(Media(path=tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"expected an array \(O, \d+\), .* found one of shape \(1, 2\)"):
        LOAD(Media(array=np.zeros((1, 2))))
