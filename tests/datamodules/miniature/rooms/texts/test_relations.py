"""Relations are what their words say: hand-made rooms, slow oracles, and the same after a turn."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.instructions.relations import MinMaxBox
from datamodules.miniature.rooms.furniture.catalogue import CLASSES, draw_appearance
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.rooms.texts.relations import (
    ANCHORED,
    HELD_OUT_RELATION_PAIRS,
    PREDICATES,
    Constraint,
    above,
    between,
    constraints_met_by,
    objects_satisfying,
    on,
    places_of,
)

APPEARANCES = {name: draw_appearance(np.random.default_rng(0), name) for name in CLASSES}


def boxes(low: int = -3, high: int = 3) -> st.SearchStrategy[MinMaxBox]:
    """Boxes with whole edges, at least one long."""
    corner, size = st.tuples(*[st.integers(low, high)] * 3), st.tuples(*[st.integers(1, 4)] * 3)
    return st.tuples(corner, size).map(
        lambda cs: (*map(float, cs[0]), *[float(c + s) for c, s in zip(*cs, strict=True)])
    )  # type: ignore[return-value]


def cells(box: MinMaxBox) -> set[tuple[int, int]]:
    x1, y1, _, x2, y2, _ = map(round, box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def piece(number: int, box: MinMaxBox, name: str = "chair", quarter: int = 0) -> Piece:
    return Piece(
        number, APPEARANCES[name], quarter, ((box[0] + box[3]) / 2, (box[1] + box[4]) / 2, box[2]), box
    )


def room(*pieces: Piece) -> Room:
    return Room("office", (6.0, 6.0, 2.5), pieces, 0)


@given(boxes(), boxes(), boxes())
def test_between_counts_cells(box: MinMaxBox, first: MinMaxBox, second: MinMaxBox) -> None:
    levels = [set(range(round(b[2]), round(b[5]))) for b in (box, first, second)]
    shares_height = bool(levels[0] & levels[1]) and bool(levels[0] & levels[2])
    share = []
    for axis in (0, 1):
        near, far = (first, second) if first[axis] <= second[axis] else (second, first)
        other = 1 - axis
        inside = [
            cell
            for cell in cells(box)
            if near[axis + 3] <= cell[axis] < far[axis]
            and all(b[other] <= cell[other] < b[other + 3] for b in (near, far))
        ]
        share.append(len(inside) / len(cells(box)))
    assert between(box, first, second) == (shares_height and max(share) > 0.51)


TABLE: MinMaxBox = (-1.0, -0.5, 0.0, 1.0, 0.5, 0.75)


@pytest.mark.parametrize(
    ("box", "rests", "hovers"),
    [
        ((-0.2, -0.2, 0.75, 0.2, 0.2, 1.2), True, False),
        ((-0.2, -0.2, 0.85, 0.2, 0.2, 1.2), True, True),
        ((-0.2, -0.2, 1.2, 0.2, 0.2, 1.6), False, True),
        ((0.9, -0.2, 0.75, 1.3, 0.2, 1.2), False, False),  # a quarter of it is over the table
        ((0.87, -0.2, 0.75, 1.27, 0.2, 1.2), True, False),
        ((-2.0, -2.0, 0.75, 2.0, 2.0, 1.2), False, False),  # far larger than what would carry it
        ((-0.2, -0.2, 0.0, 0.2, 0.2, 0.5), False, False),
    ],
)
def test_on_and_above(box: MinMaxBox, rests: bool, hovers: bool) -> None:
    thing, table = piece(0, box), piece(1, TABLE, "table")
    assert (on(thing, table), PREDICATES["carrying"](table, thing)) == (rests, rests)
    assert (above(thing, table), PREDICATES["below"](table, thing)) == (hovers, hovers)
    assert not on(table, thing)


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((-2.95, -0.5, 0, -2.0, 0.5, 1), ("wall",)),
        ((-2.95, -2.9, 0, -2.0, -2.0, 1), ("corner", "wall")),
        ((2.0, 2.0, 0, 2.9, 2.95, 1), ("corner", "wall")),
        ((-0.4, -0.4, 0, 0.4, 0.4, 1), ("middle",)),
        ((-2.8, -0.5, 0, -2.0, 0.5, 1), ()),
        ((1.0, 0.0, 0, 2.0, 1.0, 1), ()),
    ],
)
def test_places(box: MinMaxBox, found: tuple[str, ...]) -> None:
    assert places_of(room(), piece(0, box)) == found


@pytest.mark.parametrize(
    ("box", "relation"),
    [
        ((-1.0, -0.2, 0, -0.6, 0.2, 1), "left"),  # who sits in the chair and looks along y has x to the right
        ((0.6, -0.2, 0, 1.0, 0.2, 1), "right"),
        ((-0.2, 0.6, 0, 0.2, 1.0, 1), "front"),
        ((-0.2, -1.0, 0, 0.2, -0.6, 1), "behind"),
    ],
)
@pytest.mark.parametrize("quarter", range(4))
def test_sides_turn_with_their_anchor(box: MinMaxBox, relation: str, quarter: int) -> None:
    x1, y1, z1, x2, y2, z2 = box
    for _ in range(quarter):
        x1, y1, x2, y2 = -y2, x1, -y1, x2
    thing, anchor = (
        piece(0, (x1, y1, z1, x2, y2, z2)),
        piece(1, (-0.25, -0.25, 0, 0.25, 0.25, 1), "chair", quarter),
    )
    sides = ("left", "right", "front", "behind")
    assert [side for side in sides if PREDICATES[side](thing, anchor)] == [relation]
    table = piece(1, anchor.box, "table", quarter)
    assert not any(PREDICATES[side](thing, table) for side in sides)  # a table has no front
    high = piece(0, (x1, y1, 1.5, x2, y2, 2.0))
    assert not any(PREDICATES[side](high, anchor) for side in sides)
    far = piece(0, (9 * x1, 9 * y1, z1, 9 * x1 + 0.1, 9 * y1 + 0.1, z2))
    assert not any(PREDICATES[side](far, anchor) for side in sides)


def test_next_is_near_and_not_stacked() -> None:
    anchor = piece(0, TABLE, "table")
    near, far = piece(1, (1.4, 0, 0, 1.8, 0.4, 1)), piece(2, (1.6, 0, 0, 2.0, 0.4, 1))
    stacked = piece(3, (-0.2, -0.2, 0.75, 0.2, 0.2, 1.2))
    assert [PREDICATES["next"](thing, anchor) for thing in (near, far, stacked)] == [True, False, False]


def test_superlatives_need_a_clear_lead_and_a_rival() -> None:
    anchor = piece(9, (-0.1, -0.1, 0, 0.1, 0.1, 1), "lamp")
    row = [piece(i, (x, 0, 0, x + 0.4, 0.4, 1)) for i, x in enumerate((1.0, 1.3, 2.4))]
    scene = room(anchor, *row)

    def found(relation: str, pool: list[Piece]) -> list[int]:
        return [thing.number for thing in objects_satisfying(scene, pool, Constraint(relation, (anchor,)))]

    assert found("closest", row) == [0]
    assert found("farthest", row) == [2]
    assert found("closest", row[:1]) == []
    assert found("closest", [row[0], piece(5, (1.15, 0, 0, 1.5, 0.4, 1))]) == []
    assert found("closest", [*row, anchor]) == [0]  # an anchor is not nearest to itself


@given(st.lists(boxes(), min_size=3, max_size=5))
def test_constraints_are_all_that_hold(found: list[MinMaxBox]) -> None:
    pieces = [piece(i, box, ("chair", "table", "sofa")[i % 3], i % 4) for i, box in enumerate(found)]
    scene = room(*pieces)
    for thing in pieces:
        told = {
            (constraint.relation, tuple(a.number for a in constraint.anchors))
            for constraint in constraints_met_by(scene, thing, pieces)
        }
        for relation in (*ANCHORED, "corner", "wall", "middle"):
            if relation in ("closest", "farthest"):
                assert not any(name == relation for name, _ in told)
                continue
            count = {"between": 2, "corner": 0, "wall": 0, "middle": 0}.get(relation, 1)
            for anchors in itertools.combinations([other for other in pieces if other != thing], count):
                true = thing in objects_satisfying(scene, pieces, Constraint(relation, anchors))
                assert ((relation, tuple(a.number for a in anchors)) in told) == true


def test_each_relation_keeps_anchors_and_each_anchor_keeps_relations() -> None:
    assert len(HELD_OUT_RELATION_PAIRS) / len(ANCHORED) / len(CLASSES) == pytest.approx(1 / 7, abs=0.01)
    for relation in ANCHORED:
        assert 3 <= sum(held == relation for held, _ in HELD_OUT_RELATION_PAIRS) <= 6
    for name in CLASSES:
        assert 1 <= sum(held == name for _, held in HELD_OUT_RELATION_PAIRS) <= 3
    held, told = sorted(HELD_OUT_RELATION_PAIRS)[0], ("on", "desk")
    assert Constraint(held[0], (piece(0, TABLE, held[1]),)).held_out
    assert Constraint(told[0], (piece(0, TABLE, told[1]),)).held_out == (told in HELD_OUT_RELATION_PAIRS)
    assert not Constraint("corner").held_out
