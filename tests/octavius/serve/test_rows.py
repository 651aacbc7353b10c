"""What of an answer may be shown while it may still change."""

import pytest

from octavius.serve.rows import held_back


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [("ab", ("bc",), "a"), ("ab", ("cd",), "ab"), ("a\ufffd", (), "a"), ("aab", ("aabb", "b!"), "")],
)
def test_what_may_still_change_is_not_shown(text: str, stops: tuple[str, ...], shown: str) -> None:
    assert held_back(text, stops) == shown
