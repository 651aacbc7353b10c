"""Refuses pickles that take far more memory or time than their length suggests, before they are unpickled.

`torch.load(weights_only=True)` runs no foreign code, but a value that stands once in a pickle can be used again for
two bytes each. So a megabyte can copy half a megabyte 100,000 times (`_codecs.encode`, `set`, the attributes of an
OrderedDict, the sizes of a tensor), or use tuples nested over forty levels as a key, whose hash takes years. Here the
opcodes are followed without making any value: each is known by its kind and its length alone.
"""

import pickletools
from collections.abc import Iterator, Sequence
from typing import IO, Any

MOST_COPIED = 20_000_000
"""Sum of the lengths of what calls are given; 100,000 tensors of six dimensions need 3,000,000."""

MOST_DIMENSIONS = 64
"""Longest tuple inside the arguments of a call, such as the sizes of a tensor."""

LONGEST_STORAGE_KEY = 8

LARGEST_KEY = 2**60
"""Python hashes an integer modulo 2**61 - 1, so that larger ones can all be given the same hash."""

HASHING = {"collections Counter", "collections OrderedDict", "builtins set", "builtins frozenset"}
"""Callables that hash what they are given."""


class _Value:
    """What is known of a value.

    Attributes:
        kind: "plain", "tuple", "list", "dict", "other", or the name of a global such as "builtins set".
        size: number of characters or elements.
        flat: whether no element has elements itself, so that hashing it takes no longer than its size.
        number: the value of an integer.
    """

    __slots__ = ("flat", "kind", "number", "parts", "size")

    def __init__(self, kind: str, size: int = 0, parts: "tuple[_Value, ...]" = ()) -> None:
        self.kind, self.size, self.parts, self.number = kind, size, parts, 0
        self.flat = True
        self.add(parts)

    def add(self, parts: "Sequence[_Value]") -> None:
        self.size += len(parts)
        self.flat = self.flat and not any(part.kind in {"tuple", "list", "dict", "other"} for part in parts)


def check_pickle(content: bytes | IO[bytes], most_bytes: int) -> None:
    """Follows the opcodes of one pickle.

    Args:
        content: the pickle, or a file at its begin; it is left behind its end.
        most_bytes: most bytes that a storage may have, the size of the file that holds it.

    Raises:
        ValueError: it is damaged, or would take more memory or time than any file of `torch.save`.
    """
    stack: list[_Value | None] = []  # None is a mark
    memo: dict[int, _Value] = {}
    copied = 0
    for name, argument in _opcodes(content):
        if name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            memo[int(argument)] = _top(stack)
        elif name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            if int(argument) not in memo:
                raise ValueError("its pickle is damaged")
            stack.append(memo[int(argument)])
        elif name == "MARK":
            stack.append(None)
        elif name == "GLOBAL":
            stack.append(_Value(str(argument)))
        elif name.startswith("EMPTY_"):
            stack.append(_Value(name.removeprefix("EMPTY_").lower()))
        elif name in {"TUPLE", "LIST"}:
            stack.append(_Value(name.lower(), 0, tuple(_since_mark(stack))))
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            parts = tuple(reversed([_pop(stack) for _ in range(int(name[-1]))]))
            stack.append(_Value("tuple", 0, parts))
        elif name in {"APPEND", "APPENDS"}:
            added = [_pop(stack)] if name == "APPEND" else _since_mark(stack)
            _top(stack).add(added)
        elif name in {"SETITEM", "SETITEMS"}:
            pairs = [_pop(stack), _pop(stack)][::-1] if name == "SETITEM" else _since_mark(stack)
            if any(not key.flat or key.kind in {"list", "dict", "other"} for key in pairs[::2]):
                raise ValueError("it has a key that is no text and no number")
            if any(abs(key.number) > LARGEST_KEY for key in pairs[::2]):
                raise ValueError("it has numbers above 2**60 as keys")
            _top(stack).add(pairs)
        elif name in {"REDUCE", "NEWOBJ", "BUILD"}:
            given, called = _pop(stack), _pop(stack)
            if called.kind == "builtins bytearray":
                raise ValueError("it makes a bytearray, which no file of weights holds")
            if called.kind in HASHING and not (given.size == 0 or all(part.flat for part in given.parts)):
                raise ValueError(f"it makes a {called.kind.split()[-1]} of nested values")
            if called.kind.startswith("torch") and any(
                part.kind == "tuple" and part.size > MOST_DIMENSIONS for part in given.parts
            ):
                raise ValueError(f"it has a tensor of more than {MOST_DIMENSIONS} dimensions")
            copied += given.size + sum(part.size for part in given.parts)
            if copied > MOST_COPIED:
                raise ValueError(f"its calls copy more than {MOST_COPIED:,} values")
            stack.append(called if name == "BUILD" else _Value("other"))
        elif name == "BINPERSID":
            key = _pop(stack)
            # ("storage", type, key, device, length, and in old files a view)
            if not key.flat or key.kind != "tuple" or key.size > LONGEST_STORAGE_KEY:
                raise ValueError("a storage of it has a key that is no text and no number")
            if any(part.number > most_bytes for part in key.parts):
                raise ValueError("a storage of it is larger than the file")
            stack.append(_Value("other"))
        elif name == "STOP":
            return
        elif name not in {"PROTO", "FRAME"}:
            value = _Value("plain", len(argument) if isinstance(argument, str | bytes) else 0)
            value.number = argument if isinstance(argument, int) else 0
            stack.append(value)


def _opcodes(content: bytes | IO[bytes]) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(content):
            yield opcode.name, argument
    except ValueError as error:
        raise ValueError(f"its pickle is damaged: {str(error)[:100]}") from None


def _pop(stack: list[_Value | None]) -> _Value:
    value = stack.pop() if stack else None
    if value is None:
        raise ValueError("its pickle is damaged")
    return value


def _top(stack: list[_Value | None]) -> _Value:
    if not stack or (value := stack[-1]) is None:
        raise ValueError("its pickle is damaged")
    return value


def _since_mark(stack: list[_Value | None]) -> list[_Value]:
    found: list[_Value] = []
    while stack:
        if (value := stack.pop()) is None:
            return found[::-1]
        found.append(value)
    raise ValueError("its pickle is damaged")
