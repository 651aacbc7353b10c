"""Command lines for plain functions: parameters are the options, the docstring is the help."""

import inspect
import re
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import auto_cli

from octavius.configuration.parser import Parser
from octavius.configuration.rules import merging_rules
from octavius.errors import readable


def call(function: Callable[..., Any], command: str, options: Sequence[str], positional: bool) -> None:
    """Parses a command line and calls a function with it.

    Args:
        function: the function behind the command.
        command: name of the command.
        options: arguments after the name.
        positional: whether parameters without a default are positional arguments.

    Raises:
        ValueError: an option is unknown, or a value is missing or wrong.
    """
    # jsonargparse reads a bool option with a value only.
    switches = {
        f"--{name}"
        for name, each in inspect.signature(function).parameters.items()
        if each.annotation is bool
    }
    argv = underscored(options)
    for index, argument in enumerate(argv):
        if argument in switches and argv[index + 1 : index + 2] not in (["true"], ["false"]):
            argv[index] = f"{argument}=true"
    settings: dict[str, Any] = {
        "as_positional": positional,
        "parser_class": Parser,
        **parser_settings(command),
    }
    with merging_rules():
        try:
            auto_cli(function, argv, **settings)
        except ArgumentError as error:
            known = [f"--{name}" for name in inspect.signature(function).parameters]
            raise ValueError(readable(str(error), known)) from None


def underscored(options: Sequence[str]) -> list[str]:
    """Writes flags as parameters are named: `--data-root=a-b` becomes `--data_root=a-b`."""
    return [
        re.sub(r"^--[\w-]+", lambda flag: "--" + flag[0][2:].replace("-", "_"), argument)
        for argument in options
    ]


def parser_settings(command: str) -> dict[str, Any]:
    """Settings of all parsers.

    Errors are raised instead of printed below the usage. Flags cannot be abbreviated, so that code which looks for a
    flag in the arguments finds it.
    """
    return {"prog": f"octavius {command}", "exit_on_error": False, "allow_abbrev": False}
