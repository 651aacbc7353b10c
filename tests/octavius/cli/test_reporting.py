"""Errors in one line, with their traceback on request, on any terminal."""

import io
import sys

import pytest

from octavius.cli.main import main


def test_the_stack_of_an_error_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVIUS_DEBUG", "1")
    with pytest.raises(ValueError, match=r"no command 'fitt' [(]did you mean 'fit'"):
        main(["fitt"])


def test_what_a_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    with pytest.raises(SystemExit):
        main(["fit\u00e9"])
    assert b"there is no command 'fit\\xe9'" in written.getvalue()
