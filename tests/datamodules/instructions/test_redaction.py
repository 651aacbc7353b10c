"""Secrets are struck from texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.instructions.endpoint import connect
from datamodules.instructions.redaction import STRUCK, Secrets

KEY = "sk-proj-AbCd+1234/efgh5678IJKL=mnop"


def test_credentials_leave_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:p%40ss@[::1]:8000/v1")
    made = connect("m", 1, 0, 1.0, None)
    assert (made.base_url, made.auth) == ("https://[::1]:8000/v1", ("user", "p@ss"))
    assert "p@ss" not in repr(made)
    assert KEY not in repr(made)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_secret_is_struck_wherever_it_stands(before: str, after: str) -> None:
    struck = Secrets(frozenset([KEY])).redact(before + KEY + after)
    assert KEY not in struck
    assert STRUCK in struck


@given(st.text(max_size=80))
def test_texts_without_a_secret_stay(text: str) -> None:
    assert Secrets(frozenset([KEY])).redact(text) == text or "://" in text
