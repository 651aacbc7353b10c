"""English nouns: plurals, articles, lists, and names in texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.instructions.wordings import listed, mentioned, plural, with_article

NAMES = ("cup", "dog", "hot dog", "bus", "person", "tv", "knife", "berry")


@pytest.mark.parametrize("name", NAMES)
def test_a_plural_is_mentioned_as_its_name(name: str) -> None:
    assert mentioned(f"There are two {plural(name)}.", NAMES) == {name}
    assert mentioned(f"There is {with_article(name)} here.", NAMES) == {name}
    assert mentioned(f"There are two x{plural(name)}x.", NAMES) == set()


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6))
def test_a_list_has_one_and_before_its_last_word(words: list[str]) -> None:
    assert listed(words).replace(" and ", ", ").split(", ") == words
    assert listed(words).count(" and ") == (len(words) > 1)


def test_what_is_plural_already_stays() -> None:
    assert (plural("scissors"), with_article("scissors")) == ("scissors", "scissors")
    assert plural("coffee shelf") == "coffee shelves"
    assert with_article("office chair") == "an office chair"
