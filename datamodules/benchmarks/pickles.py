"""A pickle that others published comes in; the plain data and arrays in it go out, and no code of it is ever run."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from datamodules.benchmarks.base import DAMAGED

# numpy's own first step of making an array; files of old versions name its old place.
_rebuild = np.zeros(0).__reduce__()[0]

ARRAYS: Mapping[str, Any] = {
    "numpy.core.multiarray._reconstruct": _rebuild,
    "numpy._core.multiarray._reconstruct": _rebuild,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": lambda text, encoding: text.encode(encoding),  # bytes in a pickle of protocol 2
}
"""What a pickle of numpy arrays names, and what it gets."""


class _Restricted(pickle.Unpickler):
    """Gives a pickle the allowed names alone; `encoding` turns texts of Python 2, raw pixels too, into str."""

    def __init__(self, file: IO[bytes], allowed: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(file, encoding="latin1")
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """The thing behind a name in the file."""
        key = f"{module}.{name}"
        if key not in self.allowed:
            raise pickle.UnpicklingError(f"it names {key}, which no data file needs and which is not run")
        return self.allowed[key]


def load_pickle(path: Path, allowed: Mapping[str, Callable[..., Any]] = ARRAYS) -> dict[str, Any]:
    """The dictionary in a pickle.

    Raises:
        ValueError: it is cut short or no pickle, holds no dictionary, or names anything that is not allowed.
    """
    try:
        with path.open("rb") as file:
            content = _Restricted(file, allowed).load()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged pickles raise almost anything
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a pickle that can be read safely: {reason}. {DAMAGED}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected a dictionary, found a {type(content).__name__}; is it the right file?"
        )
    return {str(key): value for key, value in content.items()}
