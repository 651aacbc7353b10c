"""Safe readers of `.npy` and `.npz` files, which check headers before memory is allocated.

`numpy.load` allocates what a header claims and notices later that less follows; a member of an archive may
claim, and decompress to, far more than the file holds. Here claims are compared with the file size first.
"""

import math
import os
import zipfile
from collections.abc import Iterable
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from octavius.files import open_file

MAGIC = b"\x93NUMPY"

KINDS = "biufcSUmM"
"""Allowed dtype kinds: no objects, which are pickled, and no records."""

LONGEST_HEADER = 1 << 16

MOST_UNPACKED = 1 << 27
"""Bytes that a member of an archive may decompress to."""

Stream: TypeAlias = BufferedReader | BytesIO


class Header(NamedTuple):
    """Header of an array file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_array(path: Path) -> np.ndarray:
    """Loads the array of a `.npy` file.

    Raises:
        ValueError: the file does not exist, or does not hold one plain array.
    """
    return _of_file(path)[1]


def array_header(path: Path) -> Header:
    """Reads the shape and dtype of a `.npy` file and checks that the file is long enough; the array is not read.

    Raises:
        ValueError: as `load_array`.
    """
    return _of_file(path, only_header=True)[0]


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Loads those arrays of a `.npz` file that have one of the names; other members are not read.

    Raises:
        ValueError: the file does not exist, or is not an intact archive of arrays.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            return {name: _of_member(archive, members[name]) for name in names if name in members}
    except FileNotFoundError:
        raise ValueError(f"no file at {path}; check the data root and the annotation file") from None
    except Exception as error:  # zipfile and its decompressors raise almost anything on damaged files
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({reason}); write it again") from None


def array_names(path: Path) -> list[str]:
    """Names of the arrays of a `.npz` file.

    Raises:
        ValueError: the file is not an archive of arrays.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            names = [member.filename for member in archive.infolist()]
    except Exception as error:  # as in `load_arrays`
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({reason}); write it again") from None
    if others := [name for name in names if not name.endswith(".npy")]:
        raise ValueError(f"{path} holds {', '.join(others)[:80]}, expected arrays alone, as of numpy.savez")
    return [name.removesuffix(".npy") for name in names]


def _of_file(path: Path, only_header: bool = False) -> tuple[Header, np.ndarray]:
    try:
        with open_file(path) as file:
            if file.read(4) == b"PK\3\4":
                raise ValueError(f"{path} holds several arrays; expected a .npy file with one")
            file.seek(0)
            header = _header(file, os.fstat(file.fileno()).st_size)
            return header, np.empty(0) if only_header else _numbers(file, header)
    except FileNotFoundError:
        raise ValueError(f"no file at {path}; check the data root and the annotation file") from None
    except _DamagedError as error:
        raise ValueError(f"{path} is not an array that can be read ({error}); copy it again") from None
    except OSError as error:
        raise ValueError(f"{path} is not an array that can be read ({error.strerror})") from None
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory: its array has {header.size:,} bytes") from None


def _of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.file_size > MOST_UNPACKED or member.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise _DamagedError(
            f"its member {member.filename:.40} says {member.file_size:,} bytes, expected {MOST_UNPACKED:,} at most "
            "and as numpy packs them"
        )
    with archive.open(member) as packed:
        stream = BytesIO(packed.read(MOST_UNPACKED))
    return _numbers(stream, _header(stream, stream.getbuffer().nbytes))


class _DamagedError(ValueError):
    """What is wrong with the content of a file; `load_array` adds the file name."""


def _header(stream: Stream, length: int) -> Header:
    """Parses and checks the header of an array in a file of `length` bytes."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    begin = BytesIO(
        stream.read(LONGEST_HEADER)
    )  # NumPy is given only these bytes, whatever header length the file claims
    try:
        version = np.lib.format.read_magic(begin)
        if version not in read:
            raise _DamagedError(f"version {version} of the format is for records")
        shape, fortran, dtype = read[version](begin)
    except Exception as error:  # the header is a Python literal, whose parser raises almost anything
        raise _DamagedError(str(error) or type(error).__name__) from None
    header = Header(shape, dtype, fortran)
    if dtype.kind not in KINDS or not dtype.itemsize:
        raise _DamagedError(f"expected plain numbers, found {dtype!s:.60}")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise _DamagedError(f"its shape is {shape!s:.60}")
    stream.seek(begin.tell())
    if (left := length - begin.tell()) < header.size:
        raise _DamagedError(f"its header promises {header.size:,} bytes of numbers, {left:,} follow")
    return header


def _numbers(stream: Stream, header: Header) -> np.ndarray:
    """The array that follows a header."""
    if not header.size:
        try:
            return np.empty(header.shape, header.dtype)
        except ValueError as error:  # other axes of an empty shape may exceed NumPy's limits
            raise _DamagedError(str(error)) from None
    content = bytearray(header.size)
    if stream.readinto(content) != len(content):
        raise _DamagedError("it ended while it was read")
    return np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
