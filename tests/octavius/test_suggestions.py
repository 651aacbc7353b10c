"""Suggestions for misspelt names, options, choices and classes."""

import argparse
from collections.abc import Iterable

import pytest

from octavius.options import OptionParser
from octavius.suggestions import nearest


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("fitt", ["fit", "test"], "; did you mean 'fit'?"),
        ("VOC2021", ["voc2012", "scanqa"], "; did you mean 'voc2012'?"),
        ("detecton", {"captioning": 1, "detection": 2}, "; did you mean 'detection'?"),
        ("anything", [], ""),
    ],
)
def test_the_most_similar_name_is_suggested(name: str, known: Iterable[str], hint: str) -> None:
    assert nearest(name, known) == hint


def parser() -> OptionParser:
    made = OptionParser(prog="octavius score")
    made.add_argument("--protocol", choices=["standard", "published"])
    made.add_argument("--limit", type=int)
    return made


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--protocl", "standard"], "there is no option '--protocl'; did you mean '--protocol'?"),
        (["--protocl=standard"], "did you mean '--protocol'?"),
        (["--protocol", "publishd"], "found 'publishd'; did you mean 'published'?"),
        (["--limit", "x"], "invalid int value: 'x'"),
        (["--limit"], "expected one argument"),
        (["--q"], "--help lists them"),
    ],
)
def test_errors_suggest_options_and_choices(argv: list[str], text: str) -> None:
    with pytest.raises((ValueError, argparse.ArgumentError)) as error:
        parser().parse_all(argv)
    assert text in str(error.value)
