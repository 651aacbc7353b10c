"""Bounds on the memory and time that a checkpoint takes, whatever its file says.

`torch.load(weights_only=True)` runs no code of the file, but a few hundred bytes can make it fill the memory
(`bytearray(10**11)`, compressed members), or make every later walk over the values endless: a list that holds
another twice, over forty levels, or a tensor that repeats one number 10**12 times. `torch.save` writes none of
these; what its calls may copy stands in `pickle_cost`.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from octavius.checkpoint_format.pickle_cost import check_pickle
from octavius.checkpoint_format.seal import DamagedError
from octavius.files import open_file

MOST_VALUES = 1_000_000
"""Number of values in the mappings and lists of a checkpoint; 100,000 trained tensors with AdamW need 600,000."""

DEEPEST = 900
"""Levels of nested mappings and lists."""

LEGACY_PICKLES = 5
"""Pickles before the numbers in files of torch before 1.6: mark, version, machine, content, keys of storages."""


def check_torch_file(path: Path) -> None:
    """Refuses a file of `torch.save` that expands when it is read; those of torch before 1.6 are no archives.

    Raises:
        DamagedError: a member is compressed, or a pickle calls `bytearray`, which takes any size, or what else
            `check_pickle` refuses.
        OSError: it cannot be read.
    """
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            if not zipfile.is_zipfile(stream):
                stream.seek(0)
                for _ in range(LEGACY_PICKLES):
                    check_pickle(stream, size)
                return
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                if packed := [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]:
                    raise DamagedError(
                        f"its part {packed[0]:.60} is compressed, as torch.save never writes it"
                    )
                for one in members:
                    if one.filename.endswith("data.pkl"):
                        check_pickle(archive.read(one), size)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
            raise DamagedError(str(error)) from None


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
