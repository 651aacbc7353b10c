"""Runs a command: handles signals, and reports an error of the user as one line instead of a traceback."""

import io
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import walk_tb

from octavius.errors import imported, message
from octavius.interrupts import INTERRUPTS, STATUS

USER_ERRORS = (ArgumentError, ImportError, OSError, ValueError)
"""Errors that are reported as one line."""

MORE_USER_ERRORS = (
    "lightning.fabric.utilities.exceptions.MisconfigurationException",
    "torch.OutOfMemoryError",
)
"""Those of packages that quick commands do not import. Any other error is a bug and keeps its traceback."""


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
        except Exception as error:
            INTERRUPTS.ends(2)
            more = tuple(kind for name in MORE_USER_ERRORS if (kind := imported(name)) is not None)
            if os.environ.get("OCTAVIUS_DEBUG") or not (
                isinstance(error, (*USER_ERRORS, *more)) or refused_by_lightning(error)
            ):
                raise
            print(f"octavius: error: {message(error)}", file=sys.stderr)
            raise SystemExit(2) from None


def refused_by_lightning(error: BaseException) -> bool:
    """Whether Lightning itself raised an error, so that its message explains what is wrong with an option."""
    frames = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    lightning = sys.modules.get("lightning")
    if not frames or lightning is None or lightning.__file__ is None:
        return False
    own = str(Path(lightning.__file__).parent)
    return isinstance(error, RuntimeError | TypeError) and frames[-1].startswith(own)
