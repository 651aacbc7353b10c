"""The `.npy` file of a cloud comes in; what its first bytes say is wrong with it goes out, before any training."""

from pathlib import Path

import numpy as np

from datamodules.benchmarks.base import BadItemError


def check_cloud(path: Path) -> None:
    """Refuses a file that is missing, is cut short, or cannot hold the points of a cloud.

    Only the header and the length of the file are looked at; of the points themselves (NaN, all at one place)
    the loader tells, with the file and the sample.

    Raises:
        BadItemError: what is wrong.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BadItemError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise BadItemError(f"{path} is not an array that can be read ({error}); copy it again") from None
    if not isinstance(array, np.ndarray):
        raise BadItemError(f"{path} holds several arrays; expected a .npy file with one")
    if array.ndim != 2 or array.shape[1] not in (3, 6) or array.dtype.kind not in "fiu":
        raise BadItemError(
            f"{path}: expected points (P, 3), or with colours (P, 6), found {array.dtype} {array.shape}"
        )
    if len(array) < 2:
        found = "is empty, it has no point" if not len(array) else "has a single point, it needs an extent"
        raise BadItemError(f"{path}: the cloud {found}; leave it out")
