"""Builds an object from its section of a configuration: the model of a checkpoint, or a part of it for a plan."""

from contextlib import nullcontext
from typing import Any

from octavius.configuration.parser import Parser
from octavius.configuration.rules import merging_rules
from octavius.configuration.trust import only_listed


def instantiate(name: str, kind: Any, section: Any, untrusted: str | None = None) -> Any:
    """Builds an object by the rules of the command line.

    Args:
        name: key of the section, for error messages.
        kind: type of the object: a class, of which the section names a subclass by `class_path`, or the type of an
            option, such as a dataclass or a union.
        section: the section as plain values.
        untrusted: name of the file that the section is from, if only trusted classes are allowed; None allows all.

    Raises:
        ArgumentError: the section is not one of the type.
    """
    parser = Parser(exit_on_error=False)
    if isinstance(kind, type):
        parser.add_subclass_arguments(kind, name)
    else:
        parser.add_argument(f"--{name}", type=kind)
    limits = nullcontext() if untrusted is None else only_listed(untrusted, section)
    with merging_rules(), limits:
        return parser.instantiate(parser.parse_object({name: section}))[name]
