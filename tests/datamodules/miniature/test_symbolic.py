"""The symbolic grid equals what a slow count of pixels in each patch says."""

import numpy as np
import pytest

from datamodules.miniature.symbolic import CLASSES, GRID, PARTS, WAVES, WIDTH, owners, symbols
from datamodules.miniature.world import COLOURS, HAIR, SIZE, Face, Scene, generator, make_face, make_scene

SIDE = SIZE // GRID


def slow_owner(boxes: list[tuple[int, int, int, int]], row: int, column: int) -> int:
    """The box with the most pixels in a patch, at least a quarter of them; the later one of equals."""
    counts = [
        sum(
            x1 <= x < x2 and y1 <= y < y2
            for x in range(column * SIDE, (column + 1) * SIDE)
            for y in range(row * SIDE, (row + 1) * SIDE)
        )
        for x1, y1, x2, y2 in boxes
    ]
    most = max(counts)
    if most < SIDE * SIDE / 4:
        return -1
    return max(index for index, count in enumerate(counts) if count == most)


def slow_row(facts: Scene | Face, owner: int) -> np.ndarray:
    """One patch, number by number: foreground, class, colour, box, hair, smile."""
    if owner < 0:
        return np.zeros(WIDTH)
    if isinstance(facts, Face):
        name, colour, box = "face", None, facts.box
    else:
        thing = facts.things[owner]
        name, colour, box = thing.shape, thing.colour, thing.box
    row = [1.0]
    row += [float(name == other) for other in CLASSES]
    row += [float(colour == other) for other in COLOURS]
    row += [np.cos(np.pi * edge * wave) for edge in box for wave in range(1, WAVES + 1)]
    row += [float(isinstance(facts, Face) and facts.hair == other) for other in HAIR]
    row += [float(isinstance(facts, Face) and facts.smile is value) for value in (False, True)]
    return np.array(row)


@pytest.mark.parametrize("kind", ["scene", "face"])
def test_against_a_slow_count(kind: str) -> None:
    for index in range(4):
        rng = generator(0, "symbolic", index)
        facts = make_scene(rng, count=4 - index) if kind == "scene" else make_face(rng)
        boxes = [facts.pixels] if isinstance(facts, Face) else [thing.pixels for thing in facts.things]
        grid = symbols(facts)
        assert grid.shape == (GRID * GRID, WIDTH)
        assert grid.dtype == np.float32
        for row in range(GRID):
            for column in range(GRID):
                expected = slow_row(facts, slow_owner(boxes, row, column))
                np.testing.assert_allclose(grid[row * GRID + column], expected, atol=1e-6)


def test_every_thing_owns_a_patch() -> None:
    for index in range(300):
        things = make_scene(generator(0, "owners", index)).things
        assert set(range(len(things))) <= set(owners([thing.pixels for thing in things]).tolist())


def test_a_box_can_be_read_back_from_its_code() -> None:
    for index in range(50):
        scene = make_scene(generator(0, "code", index))
        owner = owners([thing.pixels for thing in scene.things])
        first_waves = symbols(scene)[:, PARTS["box"]][:, ::WAVES]
        for place, thing in enumerate(scene.things):
            found = np.arccos(np.clip(first_waves[owner == place], -1, 1)) / np.pi
            np.testing.assert_allclose(found, np.tile(thing.box, (len(found), 1)), atol=1e-3)


def test_parts_cover_the_width_once() -> None:
    taken = [index for part in PARTS.values() for index in range(part.start, part.stop)]
    assert taken == list(range(WIDTH))
