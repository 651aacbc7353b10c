"""The gate in the settings: a class and its options, from which gates are made once the model is known."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from octavius.errors import nearest
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.base import Gate, GateSize

if TYPE_CHECKING:
    GateLike: TypeAlias = Callable[[GateSize], Gate] | str
else:
    # The parser of configurations resolves short names itself; with `str` here it would take any text for a name.
    GateLike: TypeAlias = Callable[[GateSize], Gate]


@dataclass(frozen=True)
class GateFactory:
    """Makes gates of one class with the same options.

    Attributes:
        kind: the class.
        options: all its options by name; those that are not given have the defaults of the class.
    """

    kind: type[Gate]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Adds the defaults, so that a saved model keeps them when they change."""
        known = option_defaults(self.kind)
        if unknown := sorted(set(self.options) - set(known)):
            raise ValueError(
                f"{self.kind.__name__} has no option {unknown[0]!r}{nearest(unknown[0], known)}; it has "
                f"{', '.join(known) or 'none'}"
            )
        given = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.options.items()
        }
        defaults = {name: value for name, value in known.items() if value is not inspect.Parameter.empty}
        object.__setattr__(self, "options", {**defaults, **given})

    def __call__(self, size: GateSize) -> Gate:
        """A new gate."""
        return self.kind(size, **self.options)

    @property
    def settings(self) -> dict[str, Any]:
        """What a configuration says for it."""
        return {"class_path": class_path(self.kind), "init_args": dict(self.options)}


def option_defaults(kind: type[Gate]) -> dict[str, Any]:
    """The options of a gate class, with their defaults; `inspect.Parameter.empty` where one has to be given."""
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def factory_of(gate: Any) -> GateFactory:
    """The factory for what stands in the settings.

    Args:
        gate: a short name of `GATES`, a class of gates, or `functools.partial` of one with options.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(gate, GateFactory):
        return gate
    if isinstance(gate, str):
        if gate not in GATES:
            raise ValueError(no_gate(gate))
        return GateFactory(GATES[gate])
    kind, options = gate, {}
    if isinstance(gate, partial):
        # Of a class; or, as jsonargparse makes it, of a function that takes the class as its last argument.
        kind, options = (gate.args[-1] if gate.args else gate.func), gate.keywords
    if not (isinstance(kind, type) and issubclass(kind, Gate)):
        raise ValueError(
            f"expected a gate's short name ({', '.join(GATES)}), its class, or functools.partial of its class with "
            f"options, found {gate!r:.100}"
        )
    return GateFactory(kind, options)


def no_gate(name: str) -> str:
    """What to say where a name is that of no gate."""
    return (
        f"there is no gate {name!r}{nearest(name, GATES)}; gates are {', '.join(GATES)}, or a class of yours by its "
        "class_path, such as my_module.MyGate"
    )


def class_path(kind: type) -> str:
    """The dotted name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def imported_gates() -> dict[str, type[Gate]]:
    """All gate classes that are imported, by their dotted names."""
    return {class_path(kind): kind for kind in _subclasses(Gate)}


def _subclasses(kind: Any) -> Iterator[type[Gate]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)
