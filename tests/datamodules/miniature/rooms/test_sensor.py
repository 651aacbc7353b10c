"""A scan shows what stands in the way of light, where it stands, and nothing that is hidden."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.miniature.rooms.furniture.catalogue import draw_appearance
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.room import Piece, Room, box_at
from datamodules.miniature.rooms.sensor import (
    FLOOR,
    NOTHING,
    WALL,
    Scan,
    nearest_view,
    paint,
    scan,
    thinned,
    whole_thing,
)


@pytest.fixture(scope="module")
def room() -> Room:
    return make_room(np.random.default_rng(11))


@pytest.fixture(scope="module")
def seen(room: Room) -> Scan:
    return scan(room)


def piece(number: int, name: str, at: tuple[float, float, float], share: float = 0.5) -> Piece:
    appearance = replace(draw_appearance(np.random.default_rng(0), name), relative_size=share)
    return Piece(number, appearance, 0, at, box_at(appearance, 0, at))


def test_the_same_facts_give_the_same_points(room: Room, seen: Scan) -> None:
    again = scan(room)
    for name in ("points", "colours", "segments", "owners"):
        assert np.array_equal(getattr(again, name), getattr(seen, name))
    assert again.shares == seen.shares
    other = scan(Room(room.kind, room.size, room.pieces, room.detail_seed + 1))
    assert not np.array_equal(other.points[:100], seen.points[:100])


def test_points_lie_where_their_owners_stand(room: Room, seen: Scan) -> None:
    assert seen.points.dtype == np.float32
    assert seen.colours.dtype == np.uint8
    assert len(seen.points) == len(seen.colours) == len(seen.segments) == len(seen.owners)
    for thing in room.pieces:
        points = seen.points[seen.owners == thing.number]
        assert (points >= np.array(thing.box[:3]) - 0.03).all()
        assert (points <= np.array(thing.box[3:]) + 0.03).all()
    assert abs(seen.points[seen.owners == FLOOR, 2]).max() < 0.03
    walls = abs(seen.points[seen.owners == WALL, :2]) - np.array(room.size[:2]) / 2
    assert abs(walls).min(1).max() < 0.03
    assert (seen.owners == NOTHING).mean() == pytest.approx(0.01, abs=0.002)


def test_a_segment_has_one_owner(seen: Scan) -> None:
    for segment in np.unique(seen.segments):
        assert len(np.unique(seen.owners[seen.segments == segment])) == 1


def test_pieces_show_the_colour_of_their_name(room: Room, seen: Scan) -> None:
    """The mean of a piece's points is nearer to its own body's tone than to most bodies of other names."""
    right = 0
    for thing in room.pieces:
        mean = seen.colours[seen.owners == thing.number].mean(0) / 255
        tones = {colour: paint(replace(thing.appearance, colour=colour))["body"] for colour in COLOURS}
        ranked = sorted(COLOURS, key=lambda colour: float(np.linalg.norm(tones[colour] - mean)))
        right += ranked.index(thing.colour) < 3
    assert right >= 0.8 * len(room.pieces)


def test_what_is_shut_in_is_not_seen() -> None:
    case = piece(0, "wardrobe", (0, 1.5, 0), share=1.0)
    hidden, beside = piece(1, "box", (0, 1.5, 0.5), share=0.0), piece(2, "box", (1.5, 0, 0))
    found = scan(Room("office", (5, 5, 2.5), (case, hidden, beside), 3))
    assert found.seen == (0, 2)
    assert found.shares[1] < 0.05 < 0.3 < found.shares[0]
    assert not (found.points[found.owners == 0][:, 1] < case.box[1] - 0.03).any()


def test_walls_are_open_behind_a_window() -> None:
    appearance = draw_appearance(np.random.default_rng(0), "window")
    at = (0.0, -1.95, 0.9)
    window = Piece(0, appearance, 0, at, box_at(appearance, 0, at))
    x1, _, z1, x2, _, z2 = window.box
    found = scan(Room("office", (4, 4, 2.5), (window,), 1))
    wall = found.points[(found.owners == WALL) & (found.points[:, 1] < -1.9)]
    behind = (wall[:, 0] > x1) & (wall[:, 0] < x2) & (wall[:, 2] > z1) & (wall[:, 2] < z2)
    assert len(wall) > 100
    assert behind.sum() == 0


def test_views_are_blocked_by_what_is_nearer() -> None:
    side = np.linspace(-1, 1, 61)
    y, z = (axis.reshape(-1) for axis in np.meshgrid(side, side))
    screen = np.stack([np.ones_like(y), y, z], 1)
    behind = np.array([[2.0, y, z] for y in (-2.6, -1.6, 0, 1.5, 2.6) for z in (-1.5, 0, 1.5)])
    points = np.concatenate([screen, behind])
    normals = np.tile([-1.0, 0, 0], (len(points), 1))
    found = nearest_view(points, normals, np.zeros((1, 3)))
    assert np.isfinite(found[: len(screen)]).all()
    shadow = (abs(behind[:, 1]) < 2) & (abs(behind[:, 2]) < 2)
    assert np.array_equal(np.isinf(found[len(screen) :]), shadow)
    assert found[len(screen) // 2] == pytest.approx(1)
    from_behind = nearest_view(points, normals, np.array([[3.0, 0, 0]]))
    assert np.isinf(from_behind).all()
    both_sides = nearest_view(points, normals * 0, np.array([[3.0, 0, 0]]))
    assert np.isfinite(both_sides[: len(screen)]).mean() > 0.9
    cameras = np.array([[-1.0, 0, 0], [0.0, 0, 0]])
    each = [nearest_view(points, normals, camera[None]) for camera in cameras]
    assert np.array_equal(nearest_view(points, normals, cameras), np.minimum(*each))


def test_a_surface_seen_aslant_does_not_hide_itself() -> None:
    rng = np.random.default_rng(0)
    floor = np.stack([rng.uniform(-2, 2, 6000), rng.uniform(-2, 2, 6000), np.zeros(6000)], 1)
    normals = np.tile([0, 0, 1.0], (6000, 1))
    assert np.isfinite(nearest_view(floor, normals, np.array([[0, 0, 1.5]]))).mean() > 0.95


def test_thinning_keeps_the_first_point_of_every_cell() -> None:
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (500, 3))
    kept, cells = [], set()
    for index, point in enumerate(points):
        cell = tuple(np.floor(point / 0.02).astype(int))
        if cell not in cells:
            cells.add(cell)
            kept.append(index)
    assert thinned(points).tolist() == kept


def test_a_room_without_pieces_has_walls_and_a_floor() -> None:
    found = scan(Room("office", (3, 3, 2.5), (), 0))
    assert found.seen == ()
    assert set(np.unique(found.owners)) == {FLOOR, WALL, NOTHING}


def test_a_whole_thing_has_all_its_sides() -> None:
    appearance = draw_appearance(np.random.default_rng(0), "wardrobe")
    points, colours = whole_thing(appearance, 2000, np.random.default_rng(0))
    assert points.shape == colours.shape == (2000, 3)
    box = box_at(appearance, 0, (0, 0, 0))
    assert (points[:, 1] < box[1] + 0.1).mean() > 0.1
    assert colours.min() >= 0
    assert colours.max() <= 1
