"""Entry point of `octavius` and `python -m octavius`: handles signals and the exit status around the CLI."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from octavius.cli.reporting import reporting_errors
from octavius.cli.usage import HELP_ALL, needs, overview, unknown_command
from octavius.interrupts import INTERRUPTS, STATUS
from octavius.processes import end_with_starter

# Before the imports below: they take seconds, during which a signal must end the process too.
INTERRUPTS.start(starting=True)
end_with_starter()

# torch_geometric triggers it when imported, so every command would print it first.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)

# A log file gets the state of a progress bar twice a minute instead of ten times a second; tqdm reads this on import.
if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_MININTERVAL", "30")

OWN = ("octavius", "__main__.py") if sys.argv[0].endswith(".py") else ("octavius",)
ARGV = sys.argv[1:] if Path(sys.argv[0]).parts[-len(OWN) :] == OWN else None
"""The arguments, if this program itself was started."""
QUICK = None if ARGV is None else overview(ARGV)
"""Text that needs none of the imports below, which take seconds. Each command imports what it needs alone."""
WRONG = unknown_command(ARGV) if ARGV and QUICK is None else None
NEEDS = needs(ARGV) if ARGV else "all"

if QUICK is not None or WRONG is not None:
    pass
elif NEEDS == "runs":
    from octavius.runs.listing import runs as run
elif NEEDS == "score":
    from octavius.report.score import score_files as run
elif NEEDS == "score --benchmark":
    from octavius.cli.score import score as run
elif NEEDS == "check-data":
    from octavius.cli.check_data import run
elif NEEDS == "build-instructions":
    from octavius.cli.instructions import run
elif NEEDS == "predict":
    from octavius.cli.predict import run
else:
    from octavius.cli.main import main as run_all


def run_alone(argv: Sequence[str]) -> None:
    """Runs the command that alone is imported."""
    run(["--help" if argument == HELP_ALL else argument for argument in argv[1:]])


def main() -> None:
    """Runs the command line and exits the process, even if threads or children are stuck."""
    if QUICK is not None:
        try:
            print(QUICK, end="", flush=True)
        except OSError as error:
            print(f"octavius: error: {error}", file=sys.stderr)
            INTERRUPTS.leave(2)
        INTERRUPTS.leave(0)
    if WRONG is not None:
        print(f"octavius: error: {WRONG}".encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        INTERRUPTS.leave(2)
    status: object = 0
    try:
        if NEEDS == "all":
            run_all()
        else:
            reporting_errors(run_alone)
    except SystemExit as end:
        status = end.code
    except BaseException:  # a bug: show the traceback as Python would
        sys.excepthook(*sys.exc_info())
        status = 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    # After a signal the status is STATUS, whether the interrupted code raised another error or returned.
    INTERRUPTS.leave(STATUS if INTERRUPTS.asked else int(status or 0))


if __name__ == "__main__":
    main()
