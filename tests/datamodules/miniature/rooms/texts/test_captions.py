"""Texts before they are written: names, families, and a choice of questions without a favourite answer."""

import numpy as np
import pytest

from datamodules.miniature.rooms.files import room_of
from datamodules.miniature.rooms.furniture.catalogue import draw_appearance
from datamodules.miniature.rooms.room import Piece, Room, box_at
from datamodules.miniature.rooms.texts.captions import (
    DESCRIPTIONS,
    UTTERANCES,
    Constraint,
    describe,
    label,
    mentioned,
    said,
)
from datamodules.miniature.text import with_article


def test_a_label_is_as_short_as_can_be() -> None:
    rng = np.random.default_rng(0)
    appearances = [draw_appearance(rng, name) for name in ("chair", "chair", "desk")]
    while appearances[0].colour == appearances[1].colour:
        appearances[1] = draw_appearance(rng, "chair")
    pieces = [
        Piece(i, appearance, 0, (0, 0, 0), box_at(appearance, 0, (0, 0, 0)))
        for i, appearance in enumerate(appearances)
    ]
    room = Room("office", (5, 5, 2.5), tuple(pieces), 0)
    assert label(room, pieces[2]) == "desk"
    assert label(room, pieces[0]) == f"{appearances[0].colour} chair"
    twins = Room("office", (5, 5, 2.5), (pieces[0], Piece(1, appearances[0], 0, (0, 0, 0), pieces[0].box)), 0)
    assert label(twins, pieces[0]) is None
    assert (
        said(room, Constraint("between", (pieces[0], pieces[2])))
        == f"between the {appearances[0].colour} chair and the desk"
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
