"""Texts before they are written: names, families, and a choice of questions without a favourite answer."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.rooms.files import room_of
from datamodules.miniature.rooms.furniture.catalogue import draw_look
from datamodules.miniature.rooms.room import Piece, Room, box_at
from datamodules.miniature.rooms.texts.captions import (
    DESCRIPTIONS,
    UTTERANCES,
    Claim,
    describe,
    label,
    mentioned,
    said,
    with_article,
)
from datamodules.miniature.rooms.texts.questions import MOST, WORDINGS, Question, balanced, questions


def test_a_label_is_as_short_as_can_be() -> None:
    rng = np.random.default_rng(0)
    looks = [draw_look(rng, name) for name in ("chair", "chair", "desk")]
    while looks[0].colour == looks[1].colour:
        looks[1] = draw_look(rng, "chair")
    pieces = [Piece(i, look, 0, (0, 0, 0), box_at(look, 0, (0, 0, 0))) for i, look in enumerate(looks)]
    room = Room("office", (5, 5, 2.5), tuple(pieces), 0)
    assert label(room, pieces[2]) == "desk"
    assert label(room, pieces[0]) == f"{looks[0].colour} chair"
    twins = Room("office", (5, 5, 2.5), (pieces[0], Piece(1, looks[0], 0, (0, 0, 0), pieces[0].box)), 0)
    assert label(twins, pieces[0]) is None
    assert (
        said(room, Claim("between", (pieces[0], pieces[2])))
        == f"between the {looks[0].colour} chair and the desk"
    )


def test_articles() -> None:
    assert [with_article(words) for words in ("red chair", "orange chair", "armchair")] == [
        "a red chair",
        "an orange chair",
        "an armchair",
    ]


def test_families_of_training_and_zero_shot_share_no_opening() -> None:
    assert not {form.split()[0].lower() for form in DESCRIPTIONS} & {
        form.split()[0] for form in UTTERANCES[:2]
    }
    assert not set(DESCRIPTIONS) & set(UTTERANCES)
    assert mentioned("the {colour} one {where}") == {"colour"}
    assert all("name" in mentioned(form) for form in DESCRIPTIONS)


@pytest.mark.parametrize("index", range(5))
def test_texts_of_a_piece_are_of_different_families(index: int) -> None:
    room = room_of(0, "seen", "train", index)
    rng = np.random.default_rng(index)
    for piece in room.pieces:
        for forms in (DESCRIPTIONS, UTTERANCES):
            texts = describe(room, piece, rng, forms=forms)
            assert len({text.form for text in texts}) == len(texts) <= 3
            assert all(text.form in forms for text in texts)


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
