"""Gate classes with their options as they stand in a configuration, to be built once the model is known."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.base import Gate, GateSize
from octavius.suggestions import nearest

if TYPE_CHECKING:
    GateLike: TypeAlias = Callable[[GateSize], Gate] | str
else:
    # jsonargparse reads this type at runtime. It resolves short names by `configuration.rules`; with `str` in the
    # union it would accept any text.
    GateLike: TypeAlias = Callable[[GateSize], Gate]


@dataclass(frozen=True)
class GateFactory:
    """Builds gates of one class with the same options.

    Attributes:
        kind: the gate class.
        options: all its options by name; missing ones are set to the defaults of the class.

    Raises:
        ValueError: the class has no such option.
    """

    kind: type[Gate]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Adds the defaults, so that a saved model keeps them if a later version changes them."""
        known = option_defaults(self.kind)
        if unknown := sorted(set(self.options) - set(known)):
            raise ValueError(
                f"{self.kind.__name__} has no option {unknown[0]!r}{nearest(unknown[0], known)}; it has "
                f"{', '.join(known) or 'none'}"
            )
        # A configuration has lists only, the defaults of options are tuples.
        given = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.options.items()
        }
        defaults = {name: value for name, value in known.items() if value is not inspect.Parameter.empty}
        object.__setattr__(self, "options", {**defaults, **given})

    def __call__(self, size: GateSize) -> Gate:
        """Builds a gate.

        Raises:
            ValueError: options contradict each other or the sizes of the model.
        """
        try:
            return self.kind(size, **self.options)
        except ValueError as error:
            raise ValueError(f"{self.kind.__name__}: {error}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """The factory in the form of a configuration."""
        return {"class_path": class_path(self.kind), "init_args": dict(self.options)}


def option_defaults(kind: type[Gate]) -> dict[str, Any]:
    """Options of a gate class with their defaults, or `inspect.Parameter.empty` for a required one."""
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def factory_of(gate: Any) -> GateFactory:
    """Makes a factory from the value of `LoRAMoEConfig.gate`.

    Args:
        gate: a short name from `GATES`, a gate class, `functools.partial` of one with options, or a factory.

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
        # Users wrap the class; jsonargparse wraps a function of its own, with the class as last positional argument.
        kind, options = (gate.args[-1] if gate.args else gate.func), gate.keywords
    if not (isinstance(kind, type) and issubclass(kind, Gate)):
        raise ValueError(
            f"expected a gate's short name ({', '.join(GATES)}), its class, or functools.partial of its class with "
            f"options, found {gate!r:.100}"
        )
    return GateFactory(kind, options)


def no_gate(name: str) -> str:
    """Error message for a name that no gate has."""
    return (
        f"there is no gate {name!r}{nearest(name, GATES)}; gates are {', '.join(GATES)}, or a class by its whole "
        "class_path, such as my_module.MyGate"
    )


def class_path(kind: type) -> str:
    """Dotted import path of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def imported_gates() -> dict[str, type[Gate]]:
    """All gate classes imported so far, by dotted path."""
    return {class_path(kind): kind for kind in _subclasses(Gate)}


def _subclasses(kind: Any) -> Iterator[type[Gate]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)
