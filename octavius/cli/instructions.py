"""The command `octavius build-instructions`, apart from commands that import models and trainers."""

from collections.abc import Sequence

from datamodules.instructions.build import build_instructions
from octavius.configuration.functions import call


def run(argv: Sequence[str]) -> None:
    """Runs the command with its arguments; see `build_instructions`."""
    call(build_instructions, "build-instructions", argv, positional=False)
