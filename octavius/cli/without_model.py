"""Commands that need neither a model nor a trainer, kept apart because importing these takes seconds."""

from collections.abc import Callable, Sequence
from typing import Any

from datamodules.check_data import check_data
from datamodules.instructions.build import build_instructions
from octavius.cli.reporting import reporting_errors
from octavius.cli.score import score
from octavius.cli.usage import HELP_ALL
from octavius.configuration.functions import call

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "build-instructions": build_instructions,
    "check-data": check_data,
}
"""Commands that are plain functions."""

OWN_PARSERS: dict[str, Callable[[Sequence[str]], None]] = {"score": score}
"""Commands that parse their own arguments."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one of these commands.

    Args:
        args: the arguments, which begin with the name of the command; None for those of the process.
    """
    reporting_errors(run, args)


def run(argv: list[str]) -> None:
    """Runs one of these commands; errors propagate."""
    command, *options = ["--help" if argument == HELP_ALL else argument for argument in argv]
    if command in OWN_PARSERS:
        OWN_PARSERS[command](options)
    else:
        call(FUNCTIONS[command], command, options, positional=False)
