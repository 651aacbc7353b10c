"""A look at the `.npy` file of a cloud before any training: what its first bytes say is wrong with it."""

from pathlib import Path

from datamodules.benchmarks.base import BadItemError
from octavius.instruction.arrays import array_header


def check_cloud(path: Path) -> None:
    """Refuses a file that is missing, is cut short, or cannot hold the points of a cloud.

    Only the header and the length of the file are looked at; of the points themselves (NaN, all at one place)
    the loader tells, with the file and the sample.

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
        found = "is empty, it has no point" if not shape[0] else "has a single point, it needs an extent"
        raise BadItemError(f"{path}: the cloud {found}; leave it out")
