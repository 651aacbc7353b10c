"""Boxes of turned pieces, and parts of a room."""

import numpy as np
import pytest

from datamodules.miniature.rooms.furniture.catalogue import built
from datamodules.miniature.rooms.furniture.solids import surface
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.plan import Plan
from datamodules.miniature.rooms.room import Piece, Room, box_at


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("name", ["sofa", "desk", "toilet"])
def test_a_box_holds_the_turned_parts(quarter: int, name: str) -> None:
    plan = Plan(np.random.default_rng(5), (5, 5, 2.5), "none")
    appearance = plan.appearance(name)
    piece = Piece(0, appearance, quarter, (0.3, -0.2, 0), box_at(appearance, quarter, (0.3, -0.2, 0)))
    rng = np.random.default_rng(0)
    points = np.concatenate([surface(part, 3000, rng)[0] for part in built(appearance).parts])
    turn = np.exp(1j * piece.yaw) * (points[:, 0] + 1j * points[:, 1])
    low = turn.real.min() + 0.3, turn.imag.min() - 0.2
    high = turn.real.max() + 0.3, turn.imag.max() - 0.2
    assert low == pytest.approx(piece.box[:2], abs=0.02)
    assert high == pytest.approx(piece.box[3:5], abs=0.02)


def test_seen_parts_of_a_room_keep_their_numbers() -> None:
    room = make_room(np.random.default_rng(0))
    part = room.only((1, 3))
    assert [piece.number for piece in part.pieces] == [1, 3]
    assert isinstance(part, Room)
    assert part.size == room.size
