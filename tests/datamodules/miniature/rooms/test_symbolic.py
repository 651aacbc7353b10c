"""The rows of a room say what is true of its pieces, and rooms that are imagined are rooms like those of training."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.catalogue import CLASSES, HELD_OUT_PAIRS, HELD_OUT_STYLES
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.room import Piece, Room, box_at
from datamodules.miniature.rooms.symbolic import (
    NAMES,
    PARTS,
    STRENGTH,
    WIDTH,
    Part,
    alone,
    centred,
    imagined,
    planned,
    symbols,
    turned,
)
from datamodules.miniature.rooms.texts.relations import PREDICATES, places_of
from datamodules.miniature.world import generator

ROOMS = [make_room(generator(5, "symbolic", index)) for index in range(6)]


def slow_row(piece: Piece) -> list[float]:
    """One row, number by number: class, colour, size, front, centre, size of the box."""
    x1, y1, z1, x2, y2, z2 = piece.box
    row = [float(piece.name == name) for name in CLASSES] + [0.0]
    row += [float(piece.colour == colour) for colour in COLOURS]
    row += [float(piece.size == size) for size in ("small", "", "large")]
    row += [float(part) for part in piece.front or (0, 0)]
    row = [STRENGTH * number for number in row]
    return [*row, (x1 + x2) / 2, (y1 + y2) / 2, (z1 + z2) / 2, x2 - x1, y2 - y1, z2 - z1]


@pytest.mark.parametrize("room", ROOMS)
def test_rows_of_true_regions_against_a_slow_count(room: Room) -> None:
    rows = symbols(room.pieces, generator(0, "rows", 0), found=False)
    assert rows.shape == (len(room.pieces), WIDTH + 6)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [slow_row(piece) for piece in room.pieces], atol=6e-4)


def test_a_detector_misses_doubles_and_makes_up() -> None:
    counts = Counter[str]()
    for index in range(60):
        room = ROOMS[index % len(ROOMS)]
        true = symbols(room.pieces, generator(1, "true", index), found=False)
        rows = symbols(room.pieces, generator(1, "found", index))
        assert (rows[:, WIDTH + 3 :] > 0).all()
        unknown = rows[:, NAMES.index("unknown")] == STRENGTH
        counts["made up"] += int(unknown.sum())
        # What a row is of: the piece whose facts it has, and whose box is nearest.
        for row in rows[~unknown]:
            same = (true[:, :WIDTH] == row[:WIDTH]).all(1)
            off = np.abs(true[same][:, WIDTH:] - row[WIDTH:]).max(1).min()
            assert off < 0.25
            counts["off"] += off > 0.01
        counts["rows"] += len(rows)
        counts["pieces"] += len(true)
        counts["found"] += int((~unknown).sum())
    assert 0.01 < counts["made up"] / counts["pieces"] < 0.1
    assert 1.05 < counts["found"] / counts["pieces"] < 1.25
    assert counts["off"] > 0.9 * counts["found"]


def test_rows_of_no_piece() -> None:
    assert symbols([], generator(0, "none", 0)).shape == (0, WIDTH + 6)


@pytest.mark.parametrize("part", ["class", "colour"])
def test_what_is_hidden_is_random(part: Part) -> None:
    pieces = ROOMS[0].pieces
    rows = symbols(pieces, generator(0, "hidden", 0), (part,), found=False)
    plain = symbols(pieces, generator(0, "hidden", 0), found=False)
    hidden = np.zeros(WIDTH + 6, bool)
    hidden[PARTS[part]] = True
    np.testing.assert_array_equal(rows[:, ~hidden], plain[:, ~hidden])
    assert len(np.unique(rows[:, hidden])) == rows[:, hidden].size


def test_a_thing_alone_has_no_place_and_unit_size() -> None:
    piece = ROOMS[1].pieces[0]
    row = alone(piece, generator(0, "alone", 0), ("colour",))[0]
    np.testing.assert_array_equal(row[WIDTH : WIDTH + 3], 0)
    sides, true = row[WIDTH + 3 :], np.array(centred(piece.box)[3:])
    assert math.hypot(*sides) / 2 == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(sides / sides[0], true / true[0], rtol=1e-4)


def test_turned_boxes_against_the_layouts_own() -> None:
    for piece in ROOMS[2].pieces:
        x, y, z = piece.at
        spots = [(x, y, z), (-y, x, z), (-x, -y, z), (y, -x, z), (x, y, z)]
        for quarters, spot in enumerate(spots):
            expected = box_at(piece.appearance, piece.quarter + quarters, spot)
            assert turned(piece.box, quarters) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(plan=st.sampled_from(ROOMS), seed=st.integers(0, 2**31))
def test_an_imagined_room_keeps_its_plan(plan: Room, seed: int) -> None:
    """All that is true of where things stand stays so; only colours, the view and what is seen differ."""
    room = imagined(plan, np.random.default_rng(seed))
    before = {piece.number: piece for piece in plan.pieces}
    assert 0 < len(room.pieces) <= len(plan.pieces)
    assert sorted(room.size) == pytest.approx(sorted(plan.size))
    worn: dict[tuple[str, str], str] = {}
    for piece in room.pieces:
        old = before[piece.number]
        assert (piece.name, piece.size, piece.appearance.style) == (old.name, old.size, old.appearance.style)
        assert (piece.colour, piece.name) not in HELD_OUT_PAIRS
        assert (piece.appearance.style, piece.name) not in HELD_OUT_STYLES
        assert worn.setdefault((piece.name, old.colour), piece.colour) == piece.colour
        assert places_of(room, piece) == places_of(plan, old)
        for other in room.pieces:
            for holds in PREDICATES.values():
                assert holds(piece, other) == holds(old, before[other.number])
    assert len(set(worn.items())) == len({(name, new) for (name, _), new in worn.items()})


def test_imagined_rooms_differ() -> None:
    rooms = [imagined(ROOMS[3], generator(0, "imagined", index)) for index in range(40)]
    assert len({room.pieces for room in rooms}) == 40
    assert len({room.size for room in rooms}) == 2
    assert len({len(room.pieces) for room in rooms}) > 2


def test_small_rooms_hold_few_pieces() -> None:
    plan = max(ROOMS, key=lambda room: len(room.pieces))
    sizes = [len(imagined(plan, generator(0, "few", index), 0.5).pieces) for index in range(200)]
    small = [size for size in sizes if size <= 6]
    assert set(small) == {2, 3, 4, 5, 6}
    assert 70 < len(small) < 130
    assert min(len(imagined(plan, generator(0, "few", index)).pieces) for index in range(200)) > 6


def test_plans_are_streams_of_their_own() -> None:
    assert planned(0, "one", 3) == make_room(generator(0, "one", 3))
    plans = [planned(seed, place, index) for seed in (0, 1) for place in ("one", "two") for index in (0, 1)]
    assert len({plan.size for plan in plans}) == len(plans)
