"""Warnings and log records that users see, and those that they do not."""

import logging
import warnings

import pytest

from octavius.cli.messages import UNSAID, show_warning, worth_reading


@pytest.mark.parametrize("part", UNSAID)
def test_records_that_mean_nothing_are_dropped(part: str) -> None:
    assert not worth_reading(logging.LogRecord("a", logging.INFO, "b", 1, f"so: {part} ...", None, None))
    assert worth_reading(logging.LogRecord("a", logging.INFO, "b", 1, "GPU available: %s", (True,), None))


def test_our_warnings_are_one_line_and_others_name_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    show_warning("so it is", UserWarning, "/x/octavius/precision.py", 3)
    assert capsys.readouterr().err == "warning: so it is\n"
    show_warning("so it is", UserWarning, "/x/other/a.py", 3)
    assert capsys.readouterr().err == warnings.formatwarning("so it is", UserWarning, "/x/other/a.py", 3)
