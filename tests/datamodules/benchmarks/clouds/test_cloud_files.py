"""Files of clouds are checked by their header alone."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmarks.base import BadItemError
from datamodules.benchmarks.clouds.cloud_files import check_cloud


@pytest.mark.parametrize("columns", [3, 6])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_points_with_or_without_colours_are_taken(tmp_path: Path, columns: int, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, columns), dtype))
    check_cloud(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 4)), r"expected points \(P, 3\), or with colours \(P, 6\), found float64 \(5, 4\)"),
        (np.ones(3), "expected points"),
        (np.ones((5, 3), bool), "expected points"),
        (np.ones((0, 3)), "expected at least 2 points, found 0"),
        (np.ones((1, 3)), "expected at least 2 points, found 1"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadItemError, match=message):
        check_cloud(tmp_path / "a.npy")


def test_missing_and_cut_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(BadItemError, match="there is no file"):
        check_cloud(path)
    np.save(path, np.ones((5, 3)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadItemError, match=r"a\.npy"):
        check_cloud(path)
