"""Runs a command: handles signals, and reports an error of the user as one line instead of a traceback."""

import io
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from octavius.cli.trainer_options import refused_by_lightning
from octavius.errors import message
from octavius.interrupts import INTERRUPTS, STATUS

USER_ERRORS = (
    ArgumentError,
    ImportError,
    OSError,
    ValueError,
    MisconfigurationException,
    torch.OutOfMemoryError,
)
"""Errors that are reported as one line. Any other error is a bug and keeps its traceback."""


def reporting_errors(run: Callable[[list[str]], None], args: Sequence[str] | None = None) -> None:
    """Runs a command; errors of the user end with one message and status 2, a signal with status 130.

    Args:
        run: takes the arguments, which begin with the name of the command.
        args: the arguments; None for those of the process.

    Raises:
        SystemExit: the command was stopped, or failed by an error of the user.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal's encoding may lack characters of the data
            stream.reconfigure(errors="backslashreplace")
    with INTERRUPTS.listening():
        try:
            run(list(sys.argv[1:] if args is None else args))
        except KeyboardInterrupt:
            INTERRUPTS.ends(STATUS)
            print("octavius: stopped", file=sys.stderr)
            raise SystemExit(STATUS) from None
        except (*USER_ERRORS, RuntimeError, TypeError) as error:
            INTERRUPTS.ends(2)
            if os.environ.get("OCTAVIUS_DEBUG") or not (
                isinstance(error, USER_ERRORS) or refused_by_lightning(error)
            ):
                raise
            print(f"octavius: error: {message(error)}", file=sys.stderr)
            raise SystemExit(2) from None
