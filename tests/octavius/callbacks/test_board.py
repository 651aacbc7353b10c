"""Texts in figures: without control characters, and with a square for what the font lacks."""

import pytest

from octavius.callbacks.board import drawable, legend_label
from tests.octavius.odd_texts import ODD


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
def test_any_text_can_be_drawn(odd: str) -> None:
    for shown in (drawable(odd), legend_label(odd)):
        shown.encode()
        assert not {"\x1b", "\0", "\u202e", "\u200f"} & set(shown)
    assert not legend_label(odd).startswith("_")


def test_what_the_font_lacks_becomes_a_square() -> None:
    assert drawable("a cat, 猫") == "a cat, \u25a1"
    assert drawable("two\nlines") == "two\nlines"
