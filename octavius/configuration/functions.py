"""Command lines for plain functions: parameters are the options, the docstring is the help."""

import inspect
import re
from argparse import Action, ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import DefaultHelpFormatter, auto_cli

from octavius.configuration.parser import Parser
from octavius.configuration.rules import merging_rules
from octavius.errors import readable


class HelpFormatter(DefaultHelpFormatter):
    """Help without the types of parameters, and without defaults that say nothing: null, and false of a switch."""

    def _get_help_string(self, action: Action) -> str:
        if not hasattr(action, "_typehint"):  # --help and --config, which are no parameters
            return super()._get_help_string(action)
        said = "required" if action.required else "default: %(default)s"
        nothing = not action.required and (action.default is None or action.default is False)
        return (action.help or "") + ("" if nothing else f" ({said})")

    def _format_args(self, action: Action, default_metavar: str) -> str:
        is_switch = getattr(action, "_typehint", None) is bool and action.default is False
        return "" if is_switch else super()._format_args(action, default_metavar)


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
        "formatter_class": HelpFormatter,
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
