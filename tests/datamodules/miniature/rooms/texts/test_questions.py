"""Questions about rooms: every kind occurs, and answers are balanced."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.rooms.files import room_of
from datamodules.miniature.rooms.texts.questions import MOST, WORDINGS, Question, balanced, questions


def test_every_kind_is_asked_in_every_wording() -> None:
    found = [
        question
        for index in range(25)
        for question in questions(room_of(0, "seen", "train", index), np.random.default_rng(index))
    ]
    assert {question.kind for question in found} == set(WORDINGS)
    openings = Counter(" ".join(question.text.split()[:2]) for question in found)
    for forms in WORDINGS.values():
        assert all(
            openings[" ".join(form.split()[:2])] > 0 or "{" in " ".join(form.split()[:2]) for form in forms
        )
    assert 12 <= len(found) / 25 <= 18
    counts = Counter(question.answers[0] for question in found if question.kind == "count")
    assert {"0", "1", "2", "3"} <= set(counts)


@given(st.lists(st.tuples(st.sampled_from(("colour", "count")), st.sampled_from("abcdef")), max_size=60))
def test_no_answer_has_more_than_its_share(pairs: list[tuple[str, str]]) -> None:
    asked = [Question(kind, f"{i}", (answer,), ()) for i, (kind, answer) in enumerate(pairs)]
    kept = balanced(asked, np.random.default_rng(0))
    assert kept == [question for question in asked if question in kept]  # in the order given
    for kind in ("colour", "count"):
        counts = Counter(question.answers[0] for question in kept if question.kind == kind)
        before = Counter(question.answers[0] for question in asked if question.kind == kind)
        most = max(counts.values(), default=0)
        assert most <= max(1, MOST * sum(counts.values()))
        assert set(counts) == set(before)
        # Nothing is left out without need: one more of each that was cut would be too many.
        more = sum(min(count, most + 1) for count in before.values())
        assert counts == before or most + 1 > MOST * more


def test_yes_and_no_come_in_pairs() -> None:
    for index in range(10):
        room = room_of(0, "seen", "train", index)
        found = questions(room, np.random.default_rng(index))
        answers = [question.answers[0] for question in found if question.kind == "exists"]
        assert answers == ["yes", "no"] * (len(answers) // 2)
