"""Pickles that others published: the plain data and arrays in them, read without running anything that they name.

`pickle_machine` reads the format; here is what stands for numpy's constructors. Each checks the types of what it is
given, and that a buffer is as long as shape and type say, so an array never reaches outside of the file's own bytes.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.base import DAMAGED
from datamodules.benchmarks.pickle_machine import Buildable, Function, Machine, Name, UnsafePickleError
from octavius.files import open_file

PLAIN = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""Types of arrays: booleans, whole numbers and fractions. Objects, records, texts and dates are none."""

MOST_AXES = 8
"""Axes of an array."""


class _Kind(Buildable):
    """The type of an array; the opcode BUILD tells its byte order."""

    def __init__(self, code: str, order: str) -> None:
        super().__init__()
        self.code, self.order = code, order

    def build(self, machine: Machine, state: Any) -> "_Kind":  # noqa: ARG002
        """Takes the state (version, byte order, None, None, None, ...): no parts, names or fields."""
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise UnsafePickleError("an array is of a type with parts, expected plain numbers")
        if state[1] not in ("<", ">", "|", "="):
            raise UnsafePickleError(f"a byte order is {state[1]!r:.20}")
        self.order = state[1]
        return self

    def dtype(self) -> np.dtype[Any]:
        """The numpy type."""
        return np.dtype(self.order + self.code)


class _Array(Buildable):
    """An array before its state is known."""

    def build(self, machine: Machine, state: Any) -> np.ndarray:
        """Takes the state (version, shape, type, whether in Fortran's order, content)."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise UnsafePickleError("the state of an array is none")
        shape, kind, fortran, content = state[-4:]
        return _filled(machine, content, kind, shape, "F" if fortran else "C")


def _filled(machine: Machine, content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """The array over a buffer, which it does not copy; its values cannot be set."""
    if isinstance(content, str):  # bytes of Python 2
        content = machine.encode(content)
    if type(kind) is not _Kind or type(content) is not bytes:
        raise UnsafePickleError("an array holds objects, expected plain numbers")
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        raise UnsafePickleError("the shape of an array is none")
    if len(shape) > MOST_AXES or order not in ("C", "F"):
        raise UnsafePickleError(f"an array has {len(shape)} axes, expected {MOST_AXES} at most")
    dtype, count = kind.dtype(), math.prod(shape)
    if count * dtype.itemsize != len(content):
        raise UnsafePickleError(
            f"an array of {count * dtype.itemsize} bytes was promised, but its content has {len(content)}"
        )
    if not count:
        return np.zeros([min(size, 1 << 40) for size in shape], dtype)
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _dtype(_machine: Machine, code: Any, *_: Any) -> _Kind:
    """`numpy.dtype`, of plain numbers alone."""
    text = code if isinstance(code, str) else ""
    order, plain = (text[0], text[1:]) if text[:1] in ("<", ">", "|", "=") else ("=", text)
    if plain not in PLAIN:
        raise UnsafePickleError(f"an array is of the type {text or type(code)!r:.40}, expected plain numbers")
    return _Kind(plain, order)


def _reconstruct(_machine: Machine, owner: Any, *_: Any) -> _Array:
    """The first step of making an array of making an array; shape and type come with the second."""
    if owner != Name("numpy.ndarray"):
        raise UnsafePickleError("an array is of a class of its own")
    return _Array()


def _from_buffer(machine: Machine, content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """How arrays are made in protocol 5."""
    return _filled(machine, content, kind, shape, order)


def encode(machine: Machine, text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes in a pickle of protocol 0 to 2, which Python 3 writes as a text of Latin 1."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError("bytes are given in another form than texts of Latin 1")
    return machine.encode(text)


def no_bytes(_machine: Machine) -> bytes:
    """No bytes at all, which these protocols write as a call of `bytes` without an argument."""
    return b""


def _never(*_: object) -> Any:
    """What may be named, but not called: a class that is the argument of another function."""
    raise UnsafePickleError("it calls a class that is only named in data files")


ARRAYS: Mapping[str, Function] = {
    # Files of old versions of numpy name the old places.
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "numpy.ndarray": _never,
    "numpy.dtype": _dtype,
    "_codecs.encode": encode,
    "__builtin__.bytes": no_bytes,
    "builtins.bytes": no_bytes,
}
"""What a pickle of numpy arrays names, and what is called for it."""


def load_pickle(path: Path, functions: Mapping[str, Function] = ARRAYS) -> dict[str, Any]:
    """The dictionary in a pickle, with texts for its keys, also where Python 3 wrote those of Python 2 as bytes.

    Args:
        path: the file.
        functions: what it may name, and the function that is called for each; see `Machine`.

    Raises:
        ValueError: it is cut short or no pickle, holds no dictionary, or names anything that is not allowed.
    """
    try:
        with open_file(path) as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        content = Machine(data, functions).load()
    except Exception as error:  # damaged pickles raise almost anything
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a pickle that can be read safely: {reason}. {DAMAGED}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected a dictionary, found a {type(content).__name__}; is it the right file?"
        )
    named = {as_text(key): value for key, value in content.items()}
    if len(named) < len(content):
        raise ValueError(f"{path}: a key stands in it both as text and as bytes. {DAMAGED}")
    return named


def as_text(value: Any) -> Any:
    """A text of Python 2, which `pickle.load(.., encoding="bytes")` and a new pickle have turned into bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else value
