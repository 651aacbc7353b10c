"""Exact match: shares of answers that are equal as they are, normalised, and refined."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import References
from octavius.metrics import ExactMatch
from octavius.metrics.exact_match import matches, normalised

WORDS = "a the table Table. brown 2 two none tv TV letf left mat2 mat no & ? o' clock o'clock t-shirt".split()  # noqa: SIM905
answers = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join) | st.text(max_size=8)


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("  The Brown   TABLE. ", "brown table"),
        ("on a chair and an armchair", "on chair and armchair"),
        ("the a table", "table"),
        ("theatre and another", "theatre and another"),  # articles are words, not beginnings of words
        ("2 chairs, 10 boxes and 21 pens", "two chairs, ten boxes and 21 pens"),
        ("none", "zero"),
        ("to the rigth of tehre", "to right of there"),
        ("o' clock and oclock", "o'clock and o'clock"),
        ("mat2 of the tv", "mat of TV"),
        ("facing backwards", "facing backward"),
        ("dark-brown (wood)", "dark-brown wood"),
        ("3:30 & 4", "three:30 four"),
        ("!?", ""),
    ],
)
def test_what_does_not_matter_is_left_out(answer: str, plain: str) -> None:
    assert normalised(answer) == plain


@pytest.mark.parametrize(
    ("answer", "right", "grades"),
    [
        ("brown table", ["table", "brown table"], (True, True, True)),
        ("Brown table", ["brown table"], (False, True, True)),
        ("2", ["two"], (False, True, True)),
        ("brown", ["table", "dark brown"], (False, False, True)),
        ("it is a dark brown table", ["table"], (False, False, True)),
        ("t shirt", ["tshirt"], (False, False, True)),  # blanks aside
        ("no", ["brown"], (False, False, False)),
        ("now", ["no"], (False, False, True)),  # refined is as lax as this
        ("tvs", ["tv"], (False, False, False)),
        ("", ["table"], (False, False, False)),
        ("?", ["table"], (False, False, False)),
        ("?", ["?"], (True, True, True)),
        ("table", ["?"], (False, False, False)),
        (None, ["table"], (False, False, False)),
    ],
)
def test_grades_of_an_answer(answer: str | None, right: list[str], grades: tuple[bool, bool, bool]) -> None:
    assert matches(answer, right) == grades


@given(answers, st.lists(answers, min_size=1, max_size=3))
def test_each_grade_lets_through_what_the_one_before_does(answer: str, right: list[str]) -> None:
    exact, equal, refined = matches(answer, right)
    assert exact == any(answer == text for text in right)
    assert exact <= equal <= refined
    assert matches(answer, right[::-1]) == (exact, equal, refined)


@given(answers)
def test_normalising_leaves_no_capitals_but_tv_and_no_outer_blanks(text: str) -> None:
    plain = normalised(text)
    assert plain == " ".join(plain.split())
    assert plain.replace("TV", "tv") == plain.replace("TV", "tv").lower()


@given(
    st.lists(
        st.tuples(st.none() | answers, st.lists(answers, min_size=1, max_size=2)), min_size=1, max_size=5
    )
)
def test_shares_equal_counts(pairs: list[tuple[str | None, list[str]]]) -> None:
    metric = ExactMatch()
    metric.update([answer for answer, _ in pairs], [References(tuple(right)) for _, right in pairs])
    grades = zip(*[matches(answer, right) for answer, right in pairs], strict=True)
    expected = dict(
        zip(
            ("em1", "em1_normalised", "em1_refined"),
            [sum(grade) / len(pairs) for grade in grades],
            strict=True,
        )
    )
    assert metric.compute() == pytest.approx(expected)
