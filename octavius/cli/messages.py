"""Leaves out messages of other packages that mean nothing to users, and prints warnings as one line."""

import logging
import sys
import warnings
from typing import Any

MEANINGLESS = (
    ".*isinstance.treespec, LeafSpec.*",
    ".*in eval mode at the start",  # frozen encoders
    "Checkpoint directory .* exists and is not empty",  # last.ckpt is meant to be replaced
)
"""Patterns of warnings about what is intended."""

UNSAID = (
    "Tip:",
    "was raised with message",  # the error is reported in full at the end
    "to estimate number of stepping batches",
    "TPU available: False",
    "No CUDA runtime is found, using CUDA_HOME",
)
"""Parts of log records that are dropped."""

LOGGERS = ("lightning.pytorch.utilities.rank_zero", "torch.utils.cpp_extension")
OWN = ("octavius", "datamodules")


def quieten() -> None:
    """Installs the filters."""
    for pattern in MEANINGLESS:
        warnings.filterwarnings("ignore", message=pattern)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(worth_reading)
    warnings.showwarning = show_warning


def worth_reading(record: logging.LogRecord) -> bool:
    """Logging filter for records without any of `UNSAID`."""
    text = record.getMessage()
    return not any(part in text for part in UNSAID)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: Any = None,
) -> None:
    """Prints a warning of ours without the line of code that raised it; others as Python does."""
    if any(f"/{package}/" in filename for package in OWN):
        print(f"warning: {message}", file=file or sys.stderr, flush=True)
    else:
        print(
            warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr
        )
