"""Asserts that a reader reports the single bad item of a folder, and returns the good samples."""

from collections.abc import Callable
from pathlib import Path

import pytest

from octavius.instruction.sample import Sample


def kept(read: Callable[..., list[Sample]], root: Path, split: str, message: str) -> list[Sample]:
    """The samples that are left when the bad item is left out, after the error that it is by default."""
    with pytest.raises(ValueError, match=message):
        read(root, split)
    with pytest.warns(UserWarning, match="1 bad item left out"):
        return read(root, split, bad="skip")
