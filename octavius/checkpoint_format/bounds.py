"""Bounds on the memory and time that a checkpoint takes, whatever its file says.

`torch.load(weights_only=True)` runs no code of the file, but a few hundred bytes can make it fill the memory
(`bytearray(10**11)`, compressed members), or make every later walk over the values endless: a list that holds
another twice, over forty levels, or a tensor that repeats one number 10**12 times. `torch.save` writes none of
these.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from octavius.checkpoint_format.seal import DamagedError

MOST_VALUES = 1_000_000
"""Number of values in the mappings and lists of a checkpoint; 100,000 trained tensors with AdamW need 600,000."""

DEEPEST = 900
"""Levels of nested mappings and lists."""


def check_archive(path: Path) -> None:
    """Refuses an archive that expands when it is read.

    Raises:
        DamagedError: a member is compressed, or its pickle calls `bytearray`, which takes any size.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if packed := [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]:
                raise DamagedError(f"its part {packed[0]:.60} is compressed, as torch.save never writes it")
            pickles = [archive.read(one) for one in members if one.filename.endswith("data.pkl")]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DamagedError(str(error)) from None
    if any(b"builtins\nbytearray\n" in content for content in pickles):
        raise DamagedError("it makes a bytearray, which no checkpoint holds")


def too_large(content: Any) -> str | None:
    """Counts values of nested mappings and lists, and their levels; a shared one counts wherever it stands."""
    left, waiting = MOST_VALUES, [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if not isinstance(value, Mapping | list | tuple | set):
            continue
        left -= len(value)
        if depth > DEEPEST:
            return "its values are nested too deep"
        if left < 0:
            return f"it holds more than {MOST_VALUES:,} values, where a list that stands twice counts twice"
        parts = [*value, *value.values()] if isinstance(value, Mapping) else value
        waiting += [(part, depth + 1) for part in parts]
    return None


def is_stored(tensor: Tensor) -> bool:
    """Whether a strided tensor has a number in the file for each of its elements, as opposed to an expanded one."""
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
