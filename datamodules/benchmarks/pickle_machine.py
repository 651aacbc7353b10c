"""Interpreter for the subset of the pickle format that plain data need; runs no code of the file.

Python's unpickler calls any function that the file names, allocates memo entries at any index, and builds objects of
any class. Published data sets need none of that: their pickles hold lists, dictionaries, strings and numbers, and
call a few constructors of arrays. This interpreter implements only the opcodes for those, in all protocols (0 to 5),
and calls only functions given by the caller, which check their own arguments. Its memory use is bounded by the length
of the file, never by a number in it.
"""

import ast
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Function: TypeAlias = Callable[..., Any]


class UnsafePickleError(ValueError):
    """The pickle is damaged, or contains more than plain data."""


@dataclass(frozen=True)
class Name:
    """Placeholder of a global such as `numpy.dtype` that the pickle names; its module is not imported."""

    key: str


class Buildable:
    """A value made in two steps: the opcode REDUCE creates it by a call, the opcode BUILD sets its state.

    Attributes:
        indices: memo indices at which it was stored before BUILD.
    """

    def __init__(self) -> None:
        self.indices: list[int] = []

    def build(self, machine: "Machine", state: Any) -> Any:
        """Returns the value with its state: this object or another one, which replaces it in the memo."""
        raise NotImplementedError


class Machine:
    """Reads pickles from a byte string, one after another.

    Args:
        data: the bytes.
        functions: globals that the pickles may name, such as `numpy.dtype`, and the function called instead,
            with this machine and the pickle's arguments.
        persistent: maps a persistent id to its value; None refuses persistent ids.
    """

    def __init__(
        self, data: bytes, functions: Mapping[str, Function], persistent: Function | None = None
    ) -> None:
        self.data, self.offset, self.encoded = data, 0, 0
        self.functions, self.persistent = functions, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the next pickle.

        Raises:
            UnsafePickleError: it is truncated or damaged, or has an opcode or a global that plain data do not
                need.
        """
        self.stack, self.marks, self.memo = [], [], {}
        while (code := self.take(1)) != b".":
            step = STEPS.get(code)
            if step is None:
                raise UnsafePickleError(
                    f"byte {self.offset - 1} is {code!r}, which is not an opcode for plain data"
                )
            step(self)
        value = self.pop()
        if self.stack or self.marks:
            raise UnsafePickleError("it ends in the middle of a value")
        return value

    def take(self, count: int) -> bytes:
        """Reads the next `count` bytes."""
        end = self.offset + count
        if end > len(self.data):
            raise UnsafePickleError(f"it ends at byte {len(self.data)}, where {end} bytes were expected")
        part = self.data[self.offset : end]
        self.offset = end
        return part

    def line(self) -> bytes:
        """Reads up to the next line feed, which is dropped."""
        end = self.data.find(b"\n", self.offset)
        if end < 0:
            raise UnsafePickleError("it ends in the middle of a line")
        return self.take(end + 1 - self.offset)[:-1]

    def encode(self, text: str) -> bytes:
        """Encodes a string as Latin-1.

        Raises:
            UnsafePickleError: more bytes have been encoded than the file has: a small file could fill the memory by
                encoding a string from the memo again and again.
        """
        self.encoded += len(text)
        if self.encoded > len(self.data):
            raise UnsafePickleError("it turns the same text into bytes again and again")
        return text.encode("latin-1")

    def number(self, form: str) -> Any:
        """Reads a number in a format of the module `struct`, such as `<I`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def push(self, value: Any) -> None:
        """Pushes a value onto the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Pops the top of the stack."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise UnsafePickleError("a value is missing")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Pops all values above the last mark, and the mark."""
        if not self.marks:
            raise UnsafePickleError("a mark is missing")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def last(self, kind: type) -> Any:
        """The top of the stack, which must be of the given type; it stays on the stack."""
        value = self.pop()
        self.stack.append(value)
        if type(value) is not kind:
            raise UnsafePickleError(f"expected a {kind.__name__}, found a {type(value).__name__}")
        return value

    def remember(self, index: int) -> None:
        """Stores the top of the stack in the memo."""
        value = self.pop()
        self.stack.append(value)
        self.memo[index] = value
        if isinstance(value, Buildable):
            value.indices.append(index)

    def recall(self, index: int) -> None:
        """Pushes a value from the memo."""
        if index not in self.memo:
            raise UnsafePickleError(f"nothing was stored under the index {index}")
        self.push(self.memo[index])

    def name(self, module: Any, attribute: Any) -> None:
        """Pushes the placeholder of a global."""
        key = f"{module}.{attribute}" if isinstance(module, str) and isinstance(attribute, str) else "?"
        if key not in self.functions:
            raise UnsafePickleError(f"it names {key:.80}, which is not plain data; it was not imported")
        self.push(Name(key))

    def reduce(self) -> None:
        """Calls the function that replaces a global with a tuple of arguments."""
        arguments, function = self.pop(), self.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise UnsafePickleError("it calls a value that is not a function")
        self.push(self.functions[function.key](self, *arguments))

    def build(self) -> None:
        """Sets the state of a `Buildable`, also in the memo."""
        state, value = self.pop(), self.pop()
        if not isinstance(value, Buildable):
            raise UnsafePickleError(f"it sets the state of a {type(value).__name__}")
        built = value.build(self, state)
        if built is not value:
            for index in value.indices:
                if self.memo[index] is value:
                    self.memo[index] = built
            value.indices = []
        self.push(built)

    def fill(self, pairs: list[Any]) -> None:
        """Sets alternating keys and values in the dictionary at the top of the stack."""
        content = self.last(dict)
        if len(pairs) % 2:
            raise UnsafePickleError("a key has no value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # A hostile file could choose other keys that are slow to hash (nested tuples) or collide (numbers).
            if type(key) not in (str, bytes):
                raise UnsafePickleError(f"a key is a {type(key).__name__}, expected a string")
            content[key] = value

    def dictionary(self) -> None:
        """Builds a dictionary from all values above the last mark."""
        pairs = self.pop_to_mark()
        self.push({})
        self.fill(pairs)

    def persist(self) -> None:
        """Replaces a persistent id by its value."""
        if self.persistent is None:
            raise UnsafePickleError("it refers to something outside of the file")
        self.push(self.persistent(self.pop()))

    def set_item(self) -> None:
        """Sets one key of a dictionary."""
        value, key = self.pop(), self.pop()
        self.fill([key, value])

    def append(self) -> None:
        """Appends one value to a list."""
        value = self.pop()
        self.last(list).append(value)

    def extend(self) -> None:
        """Appends all values above the last mark to a list."""
        values = self.pop_to_mark()
        self.last(list).extend(values)

    def tuple_of(self, count: int) -> None:
        """Builds a tuple of the top `count` values."""
        self.push(tuple([self.pop() for _ in range(count)][::-1]))

    def stack_global(self) -> None:
        """Pushes the placeholder of a global whose module and name are on the stack."""
        attribute, module = self.pop(), self.pop()
        self.name(module, attribute)


def _whole(text: bytes) -> int | bool:
    """A decimal integer, or a boolean, which protocols 0 and 1 write as 00 and 01."""
    return text == b"01" if text in (b"00", b"01") else int(text.rstrip(b"L"))


def _little(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


def _quoted(text: bytes) -> str:
    """A quoted Python 2 string; bytes beyond ASCII become Latin-1 characters."""
    literal = ast.literal_eval("b" + text.decode("ascii").strip())
    if not isinstance(literal, bytes):
        raise UnsafePickleError("a string is not in quotes")
    return literal.decode("latin-1")


def _unicode(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _global(machine: Machine) -> None:
    module, attribute = machine.line().decode(), machine.line().decode()
    machine.name(module, attribute)


STEPS: dict[bytes, Callable[[Machine], object]] = {
    # marks and the memo; protocol version and frame length are skipped
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"p": lambda m: m.remember(int(m.line())),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"g": lambda m: m.recall(int(m.line())),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    # numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(_whole(m.line())),
    b"L": lambda m: m.push(_whole(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(_little(m.take(m.number("<B")))),
    b"\x8b": lambda m: m.push(_little(m.take(m.number("<I")))),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    # strings (Python 2 first) and bytes
    b"S": lambda m: m.push(_quoted(m.line())),
    b"T": lambda m: m.push(m.take(m.number("<I")).decode("latin-1")),
    b"U": lambda m: m.push(m.take(m.number("<B")).decode("latin-1")),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: m.push(_unicode(m.take(m.number("<I")))),
    b"\x8c": lambda m: m.push(_unicode(m.take(m.number("<B")))),
    b"\x8d": lambda m: m.push(_unicode(m.take(m.number("<Q")))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    # containers
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"}": lambda m: m.push({}),
    b"l": lambda m: m.push(m.pop_to_mark()),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"d": Machine.dictionary,
    b"a": Machine.append,
    b"e": Machine.extend,
    b"s": Machine.set_item,
    b"u": lambda m: m.fill(m.pop_to_mark()),
    # globals
    b"c": _global,
    b"\x93": Machine.stack_global,
    b"R": Machine.reduce,
    b"b": Machine.build,
    b"Q": Machine.persist,
}
"""The opcodes of plain data and their actions."""
