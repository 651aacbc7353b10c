"""The command `octavius`, or `python -m octavius`: signals and the exit of the process around the command line."""

import sys
import warnings

from octavius.interrupts import INTERRUPTS, STATUS
from octavius.processes import end_with_starter

# Importing what the command line needs takes seconds, in which a signal must end the process as well.
INTERRUPTS.start(starting=True)
end_with_starter()

# torch_geometric calls it while it is imported, so that it would stand above every command's own words.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)

from octavius import cli  # noqa: E402 - not before the above


def main() -> None:
    """Runs the command line, and sees that the process ends when it does."""
    status: object = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code
    except BaseException:  # a fault of ours, shown as Python shows it
        sys.excepthook(*sys.exc_info())
        status = 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    # Whatever a signal led to, such as an error of code that it cut off, or a report of what was done until then.
    INTERRUPTS.leave(STATUS if INTERRUPTS.asked else int(status or 0))


if __name__ == "__main__":
    main()
