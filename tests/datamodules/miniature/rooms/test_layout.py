"""Rooms are furnished without collisions, whatever is supported is carried, and everything occurs."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, UNSEEN_CLASSES
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import USES, Change, make_room
from datamodules.miniature.rooms.room import Piece

CHANGES: tuple[Change, ...] = ("none", "pairs", "classes")


def overlapping(first: Piece, second: Piece) -> bool:
    """Whether two boxes share a place, looked for on a grid of points of the one."""
    axes = [np.linspace(first.box[i] + 1e-6, first.box[i + 3] - 1e-6, 12) for i in range(3)]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    return bool(((grid > second.box[:3]) & (grid < second.box[3:])).all(1).any())


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(CHANGES))
def test_a_room_is_in_order(seed: int, change: Change) -> None:
    room = make_room(np.random.default_rng(seed), change)
    w, d, h = room.size
    assert 6 <= len(room.pieces) <= 20
    assert [piece.number for piece in room.pieces] == list(range(len(room.pieces)))
    for piece in room.pieces:
        x1, y1, z1, x2, y2, z2 = piece.box
        assert -w / 2 <= x1 < x2 <= w / 2
        assert -d / 2 <= y1 < y2 <= d / 2
        assert 0 <= z1 < z2 <= h
        if piece.appearance.way.stands == "floor" and piece.name != "box":
            assert z1 == 0
        elif piece.appearance.way.stands == "wall":
            assert min(x1 + w / 2, w / 2 - x2, y1 + d / 2, d / 2 - y2) < 0.01
        elif z1 > 0:
            carrier = [
                other for other in room.pieces if abs(other.box[5] - z1) < 1e-6 and other.appearance.way.top
            ]
            assert any(
                box[0] < piece.at[0] < box[3] and box[1] < piece.at[1] < box[4]
                for box in (other.box for other in carrier)
            )
    for i, first in enumerate(room.pieces):
        for second in room.pieces[i + 1 :]:
            assert not overlapping(first, second), (first, second)
            assert not overlapping(second, first), (first, second)
    held = [piece.appearance.held_out for piece in room.pieces]
    assert any(held) if change == "classes" else change == "pairs" or not any(held)


def test_everything_occurs() -> None:
    rooms = [make_room(np.random.default_rng([1, index])) for index in range(120)]
    assert {room.kind for room in rooms} == set(USES)
    pieces = [piece for room in rooms for piece in room.pieces]
    names = Counter(piece.name for piece in pieces)
    assert set(names) == set(CLASSES)
    assert min(names.values()) >= 10
    assert max(names.values()) < 0.15 * len(pieces)
    assert {piece.colour for piece in pieces} == set(COLOURS)
    assert {piece.size for piece in pieces} == {"small", "", "large"}
    others = [make_room(np.random.default_rng([1, index]), "classes") for index in range(12)]
    assert {piece.name for room in others for piece in room.pieces} >= set(UNSEEN_CLASSES)


def test_a_room_depends_on_its_stream_alone() -> None:
    first, again, other = (make_room(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other
