"""Header check of `.npy` point clouds, cheap enough to run on every file of a data set."""

from pathlib import Path

from datamodules.benchmarks.base import BadItemError
from octavius.media.arrays import array_header


def check_cloud(path: Path) -> None:
    """Refuses a file that is missing, truncated, or does not have the shape (P, 3) or (P, 6) of a point cloud.

    Only the header and the file size are read. Bad values (NaN, all points at one position) are reported when the
    cloud is loaded.

    Raises:
        BadItemError: what is wrong.
    """
    if not path.exists():
        raise BadItemError(f"there is no file {path}")
    try:
        header = array_header(path)
    except ValueError as error:
        raise BadItemError(str(error)) from None
    shape = header.shape
    if len(shape) != 2 or shape[1] not in (3, 6) or header.dtype.kind not in "fiu":
        raise BadItemError(
            f"{path}: expected points (P, 3), or with colours (P, 6), found {header.dtype} {shape}"
        )
    if shape[0] < 2:
        raise BadItemError(f"{path}: expected at least 2 points, found {shape[0]}; leave it out")
