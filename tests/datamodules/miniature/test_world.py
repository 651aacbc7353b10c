"""Facts of scenes and faces are in bounds, apart, in order, and shifted as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.world import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_FACES,
    HELD_OUT_PAIRS,
    SHAPES,
    SIZE,
    STYLES,
    UNSEEN_BACKGROUND,
    UNSEEN_STYLE,
    Face,
    Scene,
    Shift,
    generator,
    make_face,
    make_scene,
    make_single,
)

SEEDS = st.integers(0, 2**31)
SHIFTS = st.sampled_from(["none", "pairs", "style"])


def check_look(facts: Scene | Face, shift: Shift) -> None:
    if shift == "style":
        assert (facts.style, facts.background) == (UNSEEN_STYLE, UNSEEN_BACKGROUND)
    else:
        assert facts.style in STYLES
        assert facts.background in BACKGROUNDS


def check_pairs(scene: Scene, shift: Shift) -> None:
    held = [(thing.colour, thing.shape) in HELD_OUT_PAIRS for thing in scene.things]
    assert all(held) if shift == "pairs" else not any(held)


@given(SEEDS, SHIFTS, st.sampled_from([None, 1, 2, 3, 4]))
def test_things_of_a_scene(seed: int, shift: Shift, count: int | None) -> None:
    scene = make_scene(generator(seed, "test", 0), shift, count)
    things = scene.things
    assert len(things) == count if count else 1 <= len(things) <= 4
    assert len({(thing.colour, thing.shape) for thing in things}) == len(things)
    assert list(things) == sorted(things, key=lambda thing: thing.pixels[:2])
    taken = set()
    for thing in things:
        x1, y1, x2, y2 = thing.pixels
        assert 0 <= x1 < x2 <= SIZE
        assert 0 <= y1 < y2 <= SIZE
        assert thing.box == (x1 / SIZE, y1 / SIZE, x2 / SIZE, y2 / SIZE)
        covered = {(x, y) for x in range(x1, x2) for y in range(y1, y2)}
        assert taken.isdisjoint(covered)
        taken |= covered
    check_pairs(scene, shift)
    check_look(scene, shift)


@given(SEEDS, SHIFTS)
def test_faces(seed: int, shift: Shift) -> None:
    face = make_face(generator(seed, "test", 0), shift)
    x1, y1, x2, y2 = face.pixels
    assert 0 <= x1 < x2 <= SIZE
    assert 0 <= y1 < y2 <= SIZE
    assert ((face.hair, face.skin) in HELD_OUT_FACES) == (shift == "pairs")
    check_look(face, shift)


@given(SEEDS, st.sampled_from(SHAPES))
def test_a_single_thing_has_the_wanted_shape(seed: int, shape: str) -> None:
    scene = make_single(generator(seed, "test", 0), shape=shape)
    assert [thing.shape for thing in scene.things] == [shape]
    check_pairs(scene, "none")


def test_shapes_that_cannot_be_drawn_are_refused() -> None:
    held = {shape for _, shape in HELD_OUT_PAIRS}
    for shape in SHAPES:
        if shape in held:
            check_pairs(make_single(generator(0, "test", 0), "pairs", shape), "pairs")
        else:
            with pytest.raises(ValueError, match=f"no held-out pair has the shape '{shape}'"):
                make_single(generator(0, "test", 0), "pairs", shape)
    with pytest.raises(ValueError, match="unknown shape 'cube'"):
        make_single(generator(0, "test", 0), shape="cube")


def test_held_out_pairs_take_one_shape_of_each_colour() -> None:
    assert sorted(colour for colour, _ in HELD_OUT_PAIRS) == sorted(COLOURS)
    assert len({shape for _, shape in HELD_OUT_PAIRS}) == len(COLOURS)
    assert {shape for _, shape in HELD_OUT_PAIRS} <= set(SHAPES)


def test_an_item_depends_on_seed_place_and_index_alone() -> None:
    first = make_scene(generator(1, "a", 5))
    assert first == make_scene(generator(1, "a", 5))
    others = [make_scene(generator(*key)) for key in ((2, "a", 5), (1, "b", 5), (1, "a", 6), (5, "a", 1))]
    assert first not in others


def test_everything_occurs() -> None:
    scenes = [make_scene(generator(0, "test", index)) for index in range(300)]
    faces = [make_face(generator(0, "test", index)) for index in range(100)]
    things = {(thing.colour, thing.shape) for scene in scenes for thing in scene.things}
    assert things == {(colour, shape) for colour in COLOURS for shape in SHAPES} - HELD_OUT_PAIRS
    assert {(face.smile, face.glasses, face.long_hair) for face in faces} == {
        (bool(n & 1), bool(n & 2), bool(n & 4)) for n in range(8)
    }
    for facts in (scenes, faces):
        assert {item.style for item in facts} == set(STYLES)
        assert {item.background for item in facts} == set(BACKGROUNDS)
