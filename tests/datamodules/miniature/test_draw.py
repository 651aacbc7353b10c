"""Pictures follow their facts: the same pixels always, things exactly in their boxes, the right colours."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.miniature.draw import INKS, draw_face, draw_scene
from datamodules.miniature.world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZE,
    STYLES,
    UNSEEN_BACKGROUND,
    UNSEEN_STYLE,
    Face,
    Scene,
    Thing,
    generator,
    make_face,
    make_scene,
)


def changed(facts: Scene | Face) -> np.ndarray:
    """Which pixels (SIZE, SIZE) the things of a picture change on its empty background."""
    picture = draw_face(facts) if isinstance(facts, Face) else draw_scene(facts)
    empty = draw_scene(Scene((), facts.style, facts.background, facts.detail_seed))
    return np.abs(np.asarray(picture, int) - np.asarray(empty, int)).max(-1) > 0


def bounds(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("style", [*STYLES, UNSEEN_STYLE])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_fills_its_box_and_nothing_else(shape: str, style: str) -> None:
    for index, pixels in enumerate([(2, 2, 30, 48), (40, 50, 85, 79), (70, 70, 110, 110)]):
        scene = Scene((Thing(shape, "blue", pixels),), style, "plain", index)
        assert np.abs(np.subtract(bounds(changed(scene)), pixels)).max() <= 1


@pytest.mark.parametrize("background", [*BACKGROUNDS, UNSEEN_BACKGROUND])
def test_nothing_is_painted_outside_the_boxes(background: str) -> None:
    for index in range(8):
        scene = replace(make_scene(generator(0, "draw", index)), background=background)
        mask = changed(scene)
        for thing in scene.things:
            x1, y1, x2, y2 = thing.pixels
            assert mask[y1:y2, x1:x2].any()
            mask[y1:y2, x1:x2] = False
        assert not mask.any()


def test_a_face_stays_in_its_box_and_nearly_fills_it() -> None:
    for index in range(12):
        face = make_face(generator(0, "draw", index))
        assert np.abs(np.subtract(bounds(changed(face)), face.pixels)).max() <= 2


@pytest.mark.parametrize("colour", COLOURS)
def test_a_box_has_its_colour(colour: str) -> None:
    scene = Scene((Thing("box", colour, (30, 30, 80, 80)),), "flat", "plain", 3)
    ink = np.asarray(draw_scene(scene))[55, 55].astype(int)
    nearest = min(INKS, key=lambda name: int(np.abs(ink - INKS[name]).sum()))
    assert nearest == colour


def test_the_same_facts_give_the_same_pixels() -> None:
    for index in range(6):
        scene, face = make_scene(generator(0, "same", index)), make_face(generator(0, "same", index))
        assert draw_scene(scene).tobytes() == draw_scene(scene).tobytes()
        assert draw_face(face).tobytes() == draw_face(face).tobytes()
        assert draw_scene(scene).size == draw_face(face).size == (SIZE, SIZE)


@pytest.mark.parametrize("change", ["smile", "glasses", "long_hair"])
def test_each_attribute_of_a_face_shows(change: str) -> None:
    face = make_face(generator(0, "attribute", 0))
    other = replace(face, **{change: not getattr(face, change)})
    assert draw_face(face).tobytes() != draw_face(other).tobytes()


def test_styles_and_backgrounds_look_different() -> None:
    scene = Scene((Thing("heart", "red", (30, 30, 80, 80)),), "flat", "plain", 5)
    looks = [replace(scene, style=style) for style in (*STYLES, UNSEEN_STYLE)]
    looks += [replace(scene, background=kind) for kind in (*BACKGROUNDS[1:], UNSEEN_BACKGROUND)]
    assert len({draw_scene(look).tobytes() for look in looks}) == len(looks)
