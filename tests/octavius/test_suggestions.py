"""Suggestions for misspelt names, options, choices and classes."""

from collections.abc import Iterable

import pytest

from octavius.suggestions import nearest


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("fitt", ["fit", "test"], " (did you mean 'fit'?)"),
        ("VOC2021", ["voc2012", "scanqa"], " (did you mean 'voc2012'?)"),
        ("detecton", {"captioning": 1, "detection": 2}, " (did you mean 'detection'?)"),
        ("anything", [], ""),
    ],
)
def test_the_most_similar_name_is_suggested(name: str, known: Iterable[str], hint: str) -> None:
    assert nearest(name, known) == hint
