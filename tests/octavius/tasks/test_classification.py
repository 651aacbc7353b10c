"""One class name in a text is found as a whole word, whatever stands around it or overlaps it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import ClassName, Sample
from octavius.tasks import Classification
from octavius.tasks.base import named

NAMES = ("grey", "dark grey", "Blue-Grey", "cat", "cat fish")
WORDS = ("a", "b", "c")


def parse(text: str, names: tuple[str, ...] = NAMES) -> str | None:
    return Classification().parse(
        text, Sample("s", "classification", "b", {}, "", ClassName(names[0], names))
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("grey", "grey"),
        ("Grey.", "grey"),
        ("It is a GREY thing", "grey"),
        ("dark grey", "dark grey"),
        ("dark  grey", "dark grey"),
        ("blue-grey", "Blue-Grey"),
        ("a cat fish!", "cat fish"),
        ("a cat", "cat"),
        ("cats", None),
        ("dark grey and grey", None),
        ("grey, or cat", None),
        ("greyish", None),
        ("", None),
    ],
)
def test_texts(text: str, found: str | None) -> None:
    assert parse(text) == found


def test_names_that_differ_in_case_alone() -> None:
    assert parse("US", ("us", "US")) == "US"
    assert parse("us", ("us", "US")) == "us"


@given(
    st.lists(st.sampled_from(WORDS), max_size=6),
    st.sets(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(tuple), max_size=4),
)
def test_named_equals_a_search_word_by_word(text: list[str], names: set[tuple[str, ...]]) -> None:
    """The oracle marks words, those of longer names first; it searches from the first word on."""
    ordered, taken, held = sorted(names, key=lambda name: (-len(name), name)), [False] * len(text), set()
    for name in ordered:
        start = 0
        while start + len(name) <= len(text):
            span = range(start, start + len(name))
            if tuple(text[place] for place in span) == name and not any(taken[place] for place in span):
                held.add(name)
                for place in span:
                    taken[place] = True
                start += len(name)
            else:
                start += 1
    found = named(" ".join(text), [" ".join(name) for name in ordered])
    assert {ordered[index] for index in found} == held
