"""Classes by the size of their boxes: right where sizes differ, and weak in the rooms, as it should be."""

import numpy as np
import pytest

from datamodules.miniature.rooms.files import room_of
from datamodules.miniature.rooms.room import Piece
from datamodules.pretraining.size_baseline import Sides, SizeBaseline


def sides(piece: Piece) -> Sides:
    x1, y1, z1, x2, y2, z2 = piece.box
    return x2 - x1, y2 - y1, z2 - z1


def test_clear_sizes_are_told_apart_whichever_way_they_stand() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.uniform(0.2, 0.4, (40, 3)), rng.uniform(1.0, 2.0, (40, 3))
    names = ["cup"] * 40 + ["ship"] * 40
    baseline = SizeBaseline(names, [tuple(row) for row in np.concatenate([small, large])])
    assert baseline([(0.3, 0.3, 0.3), (1.2, 1.8, 1.5), (1.8, 1.2, 1.5)]) == ["cup", "ship", "ship"]


def test_of_equal_sizes_the_more_frequent_class_is_taken() -> None:
    rows = [tuple(row) for row in np.random.default_rng(0).uniform(0.5, 0.6, (40, 3))]
    assert SizeBaseline(["often"] * 30 + ["rare"] * 10, rows)([(0.55, 0.55, 0.55)]) == ["often"]


def test_one_box_is_enough_to_learn_a_class() -> None:
    assert SizeBaseline(["a", "b"], [(1, 1, 1), (3, 3, 3)])([(2.9, 3, 3), (1, 1, 1.1)]) == ["b", "a"]


@pytest.mark.parametrize(("names", "count"), [([], 0), (["a"], 2)])
def test_names_and_boxes_must_match(names: list[str], count: int) -> None:
    with pytest.raises(
        ValueError, match=f"a name for each of at least one box, found {len(names)} and {count}"
    ):
        SizeBaseline(names, [(1.0, 1.0, 1.0)] * count)


def test_sizes_alone_do_not_name_the_things_of_rooms() -> None:
    train, test = (
        [piece for index in range(count) for piece in room_of(0, "seen", split, index).pieces]
        for split, count in (("train", 80), ("test", 30))
    )
    baseline = SizeBaseline([piece.name for piece in train], [sides(piece) for piece in train])
    found = baseline([sides(piece) for piece in test])
    share = np.mean([name == piece.name for name, piece in zip(found, test, strict=True)])
    assert 0.15 < share < 0.4
