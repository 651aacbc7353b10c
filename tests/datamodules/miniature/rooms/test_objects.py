"""Crops of objects in rooms."""

import numpy as np

from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.objects import crops, one_of
from datamodules.miniature.world import generator


def test_crops_are_what_lies_in_and_about_the_box() -> None:
    room = make_room(generator(0, "clip-rooms/a/room", 3))
    found = crops(0, "clip-rooms/a", 3, "seen")
    boxes = {(piece.appearance, piece.yaw): piece.box for piece in room.pieces}
    assert 4 < len(found) <= len(room.pieces)
    for shown in found:
        box = np.array(boxes[shown.appearance, shown.front])
        assert len(shown.points) >= 50
        assert (shown.points[:, :3] > box[:3] - 0.051).all()
        assert (shown.points[:, :3] < box[3:] + 0.051).all()
    assert any(
        (shown.points[:, :3].min(0) < boxes[shown.appearance, shown.front][:3]).any() for shown in found
    )


def test_each_class_of_a_room_is_shown_as_often() -> None:
    thing = crops(0, "clip-rooms/a", 3, "seen")[0]
    other = thing._replace(
        appearance=next(
            s.appearance
            for s in crops(0, "clip-rooms/a", 3, "seen")
            if s.appearance.name != thing.appearance.name
        )
    )
    rng = np.random.default_rng(0)
    names = [one_of((thing, thing, thing, other), rng).appearance.name for _ in range(300)]  # type: ignore[union-attr]
    assert 110 < names.count(other.appearance.name) < 190
    assert one_of((), rng) is None
