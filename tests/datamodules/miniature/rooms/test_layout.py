"""Rooms are furnished without collisions, whatever is supported is carried, and everything occurs."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, UNSEEN_CLASSES, built
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.furniture.solids import surface
from datamodules.miniature.rooms.layout import USES, Change, make_room
from datamodules.miniature.rooms.plan import Plan
from datamodules.miniature.rooms.room import Piece, Room, box_at

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
        if piece.look.way.stands == "floor" and piece.name != "box":
            assert z1 == 0
        elif piece.look.way.stands == "wall":
            assert min(x1 + w / 2, w / 2 - x2, y1 + d / 2, d / 2 - y2) < 0.01
        elif z1 > 0:
            carrier = [other for other in room.pieces if abs(other.box[5] - z1) < 1e-6 and other.look.way.top]
            assert any(
                box[0] < piece.at[0] < box[3] and box[1] < piece.at[1] < box[4]
                for box in (other.box for other in carrier)
            )
    for i, first in enumerate(room.pieces):
        for second in room.pieces[i + 1 :]:
            assert not overlapping(first, second), (first, second)
            assert not overlapping(second, first), (first, second)
    held = [piece.look.held_out for piece in room.pieces]
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


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("name", ["sofa", "desk", "toilet"])
def test_a_box_holds_the_turned_parts(quarter: int, name: str) -> None:
    plan = Plan(np.random.default_rng(5), (5, 5, 2.5), "none")
    look = plan.look(name)
    piece = Piece(0, look, quarter, (0.3, -0.2, 0), box_at(look, quarter, (0.3, -0.2, 0)))
    rng = np.random.default_rng(0)
    points = np.concatenate([surface(part, 3000, rng)[0] for part in built(look).parts])
    turn = np.exp(1j * piece.yaw) * (points[:, 0] + 1j * points[:, 1])
    low = turn.real.min() + 0.3, turn.imag.min() - 0.2
    high = turn.real.max() + 0.3, turn.imag.max() - 0.2
    assert low == pytest.approx(piece.box[:2], abs=0.02)
    assert high == pytest.approx(piece.box[3:5], abs=0.02)


def test_a_group_stands_as_its_words_say() -> None:
    for seed in range(12):
        plan = Plan(np.random.default_rng(seed), (6, 6, 2.6), "none")
        desk = plan.against(plan.look("desk"))
        assert desk is not None
        assert desk.front is not None
        chair = plan.before(desk, plan.look("office chair"), 0.2, faces_it=True)
        assert chair is not None
        ahead = np.array(chair.at[:2]) - np.array(desk.at[:2])
        assert ahead @ np.array(desk.front) > 0
        assert chair.front == (-desk.front[0], -desk.front[1])
        lamp = plan.upon(desk, plan.look("lamp", "top"))
        assert lamp is None or lamp.box[2] == pytest.approx(desk.box[5])


def test_a_blocked_floor_stays_free() -> None:
    plan = Plan(np.random.default_rng(0), (4, 4, 2.5), "none")
    door = plan.hung(plan.look("door"))
    assert door is not None
    plan.block(door, 4.0)
    width = door.box[3] - door.box[0], door.box[4] - door.box[1]
    assert plan.blocked[0][3] - plan.blocked[0][0] + plan.blocked[0][4] - plan.blocked[0][1] == pytest.approx(
        sum(width) + 4.0
    )
    x, y = door.at[0] + 2 * door.front[0], door.at[1] + 2 * door.front[1]  # type: ignore[index]
    assert not plan.fits((x - 0.1, y - 0.1, 0, x + 0.1, y + 0.1, 0.5))
    assert plan.fits((x - 0.1, y - 0.1, 1.5, x + 0.1, y + 0.1, 2.0))


def test_seen_parts_of_a_room_keep_their_numbers() -> None:
    room = make_room(np.random.default_rng(0))
    part = room.only((1, 3))
    assert [piece.number for piece in part.pieces] == [1, 3]
    assert isinstance(part, Room)
    assert part.size == room.size
