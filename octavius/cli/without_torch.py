"""Commands that answer at once, as they import neither PyTorch nor Lightning."""

import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence

from octavius.runs.listing import runs

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"runs": runs}


def main() -> None:
    """Runs one of these commands; errors of the user end with one message and status 2.

    Raises:
        SystemExit: the command failed, or was stopped.
    """
    command, *options = sys.argv[1:]
    try:
        COMMANDS[command](["--help" if argument == "--help-all" else argument for argument in options])
    except KeyboardInterrupt:
        print("octavius: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except (ArgumentError, OSError, ValueError) as error:
        print(f"octavius: error: {error}".encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        raise SystemExit(2) from None
