"""Values are checked for their type, never coerced, and refused with what was found."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.benchmarks.base import BadItemError
from datamodules.benchmarks.values import (
    flag,
    full_text,
    identity,
    numbers,
    object_number,
    optional_text,
    parsed_flag,
    parsed_number,
    shown,
    take,
    text,
    texts,
    whole,
)

NAN, INF = float("nan"), float("inf")

# What JSON can hold; each kind of value takes its own few of them.
ODD: list[Any] = [None, True, False, 0, 1, 2, -1, 1.0, 0.5, NAN, INF]
ODD += ["", " ", "0", "1", "true", "zz", [], [1], {}, {"a": 1}]

KINDS: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "flag": (lambda value: flag(value, "it"), [True, False, 0, 1]),
    "whole": (lambda value: whole(value, "it"), [0, 1, 2]),
    "identity": (lambda value: identity(value, "it"), [0, 1, 2, -1, "0", "1", "true", "zz"]),
    "object": (lambda value: object_number(value, "it"), [0, 1, 2, "0", "1"]),
    "text": (lambda value: text(value, "it"), ["", " ", "0", "1", "true", "zz"]),
    "full text": (lambda value: full_text(value, "it"), ["0", "1", "true", "zz"]),
    "numbers": (lambda value: numbers([value], 1), [0, 1, 2, -1, 1.0, 0.5]),
}


def key(value: object) -> tuple[str, str]:
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_value_is_of_its_kind_or_refused(kind: str, value: object) -> None:
    convert, fine = KINDS[kind]
    if key(value) in map(key, fine):
        convert(value)
    else:
        with pytest.raises(BadItemError, match=r"found|is empty"):
            convert(value)


def test_one_id_in_two_kinds_is_the_same() -> None:
    assert identity(1, "it") == identity("1", "it") == identity(" 1", "it") == "1"
    assert object_number("007", "it") == object_number(7, "it") == "7"


@pytest.mark.parametrize("written", ["7", " 45.70000076293945\n", "-.5", "1e2", "+3.", "0"])
def test_numbers_in_tables(written: str) -> None:
    assert parsed_number(written, "in <x>") == float(written)


@pytest.mark.parametrize(
    "written", ["", "nan", "inf", "-Infinity", "1_0", "0x1", "1e999", "٣", "1,5", "1 2", "9" * 400, "true"]
)
def test_what_is_no_number_in_a_table(written: str) -> None:
    with pytest.raises(BadItemError, match=r"expected a (finite )?number in <x>"):
        parsed_number(written, "in <x>")


@pytest.mark.parametrize("written", ["", "2", "-1", "1.0", "true", "yes", "0.0597", "Unspecified"])
def test_what_is_no_mark_in_a_table(written: str) -> None:
    assert (parsed_flag(" 1\n", "it"), parsed_flag("0", "it")) == (True, False)
    with pytest.raises(BadItemError, match="it should be 0 or 1, found"):
        parsed_flag(written, "it")


@pytest.mark.parametrize("value", [10**350, -(10**350), 1e300, 1.8e308])
def test_numbers_of_many_digits_are_refused(value: float) -> None:
    with pytest.raises(BadItemError, match="finite number"):
        numbers([value], 1)
    if isinstance(value, int):
        with pytest.raises(BadItemError, match="should be 0 to"):
            whole(value, "it")


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    assert text("\U0001f600 ", "it") == "\U0001f600"
    for value in ("\ud83d", "a\ude00", "\udce9.jpg"):
        for taken in (
            lambda value=value: text(value, "it"),
            lambda value=value: take({"a": value}, "a", str),
        ):
            with pytest.raises(
                BadItemError, match=r"half of a surrogate pair at character [01], .*: '.*\\ud"
            ):
                taken()


def test_texts_that_may_be_missing() -> None:
    assert [optional_text(record, "a") for record in ({}, {"a": None}, {"a": " "}, {"a": " b"})] == [
        "",
        "",
        "",
        "b",
    ]
    for value in (0, False, [], {}, 1.5):
        with pytest.raises(BadItemError, match="'a' should be a string, found"):
            optional_text({"a": value}, "a")


def test_lists_of_texts() -> None:
    assert texts({"a": [" b", "c"]}, "a") == ("b", "c")
    for value, message in (
        ([], "at least 1 string"),
        ("abc", "should be a list"),
        (["b", ""], r"'a'\[1\] is empty"),
        (["b", None], r"'a'\[1\] should be a string, found None"),
        ([["b"]], r"'a'\[0\] should be a string"),
    ):
        with pytest.raises(BadItemError, match=message):
            texts({"a": value}, "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values, st.sampled_from(list(KINDS)))
def test_whatever_the_value_it_is_typed_or_refused(value: Any, kind: str) -> None:
    said = ""
    try:
        KINDS[kind][0](value)
    except BadItemError as error:
        said = str(error)
    assert len(said.encode()) < 1000


def test_a_message_is_short_whatever_it_shows() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) < 100
    assert len(shown("x" * 10**7)) < 100
    assert len(shown({str(n): [n] * 1000 for n in range(1000)})) < 300
