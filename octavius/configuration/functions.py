"""Commands that are plain functions: their parameters are the options, their docstring is the help."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import auto_cli

from octavius.configuration.parser import Parser
from octavius.configuration.rules import merging_rules
from octavius.configuration.trust import TRUST


def call(function: Callable[..., Any], command: str, options: Sequence[str], positional: bool) -> None:
    """Calls a function with what the words of a command line say.

    Args:
        function: what the command does.
        command: its name.
        options: the words after that.
        positional: whether parameters without a default are given without a flag.
    """
    words = [f"{TRUST}=true" if word == TRUST else word for word in underscored(options)]
    with merging_rules():
        auto_cli(function, words, as_positional=positional, parser_class=Parser, **parser_settings(command))


def underscored(options: Sequence[str]) -> list[str]:
    """Flags as parameters of functions are named: `--data-root=a-b` is `--data_root=a-b`."""
    return [re.sub(r"^--[\w-]+", lambda flag: "--" + flag[0][2:].replace("-", "_"), word) for word in options]


def parser_settings(command: str) -> dict[str, Any]:
    """Errors are raised, not printed below the usage; a name is the whole name, so that look-up sees it."""
    return {"prog": f"octavius {command}", "exit_on_error": False, "allow_abbrev": False}
