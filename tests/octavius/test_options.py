"""Errors of the option parser suggest what was meant."""

import argparse

import pytest

from octavius.options import OptionParser


def parser() -> OptionParser:
    made = OptionParser(prog="octavius score")
    made.add_argument("--protocol", choices=["standard", "published"])
    made.add_argument("--limit", type=int)
    return made


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--protocl", "standard"], "there is no option '--protocl' (did you mean '--protocol'?)"),
        (["--protocl=standard"], "did you mean '--protocol'?"),
        (["--protocol", "publishd"], "found 'publishd' (did you mean 'published'?)"),
        (["--limit", "x"], "invalid int value: 'x'"),
        (["--limit"], "expected one argument"),
        (["--q"], "--help lists them"),
    ],
)
def test_errors_suggest_options_and_choices(argv: list[str], text: str) -> None:
    with pytest.raises((ValueError, argparse.ArgumentError)) as error:
        parser().parse_all(argv)
    assert text in str(error.value)
