"""Conventions contradict each other, are identified by their questions alone, and share no scene between splits."""

import random
from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.conventions import MOST, Cue, Wording, blind_ceiling, question, tables
from datamodules.miniature.world import SHAPES


@given(st.integers(1, MOST), st.integers(4, len(SHAPES)))
def test_tables_are_different_permutations_of_the_same_names(conventions: int, conflict: int) -> None:
    if conflict == 4 and conventions > 9:  # four things have nine derangements
        with pytest.raises(ValueError, match="fewer than"):
            tables(conventions, conflict)
        return
    words = tables(conventions, conflict)
    assert len({*words}) == conventions
    for table in words:
        assert sorted(table) == sorted(SHAPES)
        assert sum(word != shape for word, shape in zip(table, SHAPES, strict=True)) == conflict


def test_without_conflict_all_conventions_use_the_plain_names() -> None:
    assert tables(3, 0) == [SHAPES] * 3


@pytest.mark.parametrize(("conventions", "conflict"), [(0, 10), (MOST + 1, 10), (2, 1), (2, 11), (3, 2)])
def test_impossible_conventions_are_refused(conventions: int, conflict: int) -> None:
    with pytest.raises(ValueError, match=r"conventions|conflict|permutations"):
        tables(conventions, conflict)


@given(st.integers(1, 5), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_blind_ceiling_is_the_best_of_all_blind_answers(
    conventions: int, classes: int, rng: random.Random
) -> None:
    words = [[rng.choice("abc") for _ in range(classes)] for _ in range(conventions)]
    weights = [rng.randint(1, 5) for _ in words]
    best = max(
        sum(
            weight * sum(answer == said for answer, said in zip(answers, table, strict=True)) / classes
            for weight, table in zip(weights, words, strict=True)
        )
        / sum(weights)
        for answers in product("abc", repeat=classes)
    )
    assert blind_ceiling(words, weights) == pytest.approx(best)


@pytest.mark.parametrize("cue", get_args(Cue))
@pytest.mark.parametrize("wording", get_args(Wording))
def test_no_two_conventions_share_a_question(cue: Cue, wording: Wording) -> None:
    asked = [
        {question(cue, convention, wording, random.Random(draw)) for draw in range(300)}
        for convention in range(MOST)
    ]
    assert len(set().union(*asked)) == sum(map(len, asked))


@pytest.mark.parametrize("cue", get_args(Cue))
def test_unseen_questions_are_never_in_training(cue: Cue) -> None:
    asked = {
        wording: {question(cue, c, wording, random.Random(d)) for c in range(MOST) for d in range(300)}
        for wording in get_args(Wording)
    }
    assert not asked["seen"] & (asked["unseen_wording"] | asked["unseen_frame"])
