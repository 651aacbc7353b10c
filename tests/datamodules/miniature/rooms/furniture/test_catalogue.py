"""The grammar of things: looks are as asked, built things stand on the floor, and their named colour rules."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.catalogue import (
    CLASSES,
    HELD_OUT_PAIRS,
    HELD_OUT_STYLES,
    KINDS,
    UNSEEN_CLASSES,
    Look,
    Shift,
    built,
    draw_look,
    other_than,
)
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.furniture.solids import area, surface

NAMES = st.sampled_from(tuple(KINDS))
SEEDS = st.integers(0, 2**31)
WAYS = [(name, style) for name, kind in KINDS.items() for style in kind.styles]


@pytest.mark.parametrize(("name", "style"), WAYS)
def test_things_stand_on_the_floor_above_the_origin(name: str, style: str) -> None:
    for seed in range(4):
        look = replace(draw_look(np.random.default_rng(seed), name), style=style, relative_size=seed / 3)
        thing = built(look)
        c, s = math.cos(thing.tilt), math.sin(thing.tilt)
        rng = np.random.default_rng(0)
        points = np.concatenate([surface(part, 3000, rng)[0] for part in thing.parts])
        points = np.stack(
            [c * points[:, 0] - s * points[:, 1], s * points[:, 0] + c * points[:, 1], points[:, 2]], 1
        )
        half = np.array(thing.half)
        assert points.min(0) == pytest.approx((-half[0], -half[1], 0), abs=0.03)
        assert points.max(0) == pytest.approx(half, abs=0.03)
        assert points[:, 2].min() >= -1e-9
        if thing.top:
            height, x, y = thing.top
            face = points[(abs(points[:, 0]) < x * 0.8) & (abs(points[:, 1]) < y * 0.8)]
            assert face[:, 2].max() == pytest.approx(height, abs=0.01)


@pytest.mark.parametrize(("name", "style"), WAYS)
def test_the_named_colour_has_the_largest_share(name: str, style: str) -> None:
    look = replace(draw_look(np.random.default_rng(0), name), style=style)
    shares: dict[str, float] = {}
    for part in built(look).parts:
        shares[part.role] = shares.get(part.role, 0) + area(part)
    assert max(shares, key=lambda role: shares[role]) == "body"


@given(SEEDS, NAMES, st.sampled_from(["none", "pairs"]))
def test_looks_are_held_out_only_where_asked(seed: int, name: str, shift: Shift) -> None:
    look = draw_look(np.random.default_rng(seed), name, shift)
    assert look.accent != look.colour
    if name in UNSEEN_CLASSES:
        assert look.held_out
    elif shift == "none":
        assert not look.held_out
        assert (look.colour, name) not in HELD_OUT_PAIRS
        assert (look.style, name) not in HELD_OUT_STYLES


def test_about_half_of_a_shifted_set_is_held_out_by_colour_or_style() -> None:
    rng = np.random.default_rng(0)
    looks = [draw_look(rng, name, "pairs") for name in CLASSES for _ in range(30)]
    assert np.mean([look.held_out for look in looks]) == pytest.approx(0.5, abs=0.05)
    by_style = {look.name for look in looks if (look.style, look.name) in HELD_OUT_STYLES}
    assert by_style == {name for _, name in HELD_OUT_STYLES}


def test_every_class_and_colour_is_still_seen() -> None:
    for name in CLASSES:
        assert 1 <= sum(pair[1] == name for pair in HELD_OUT_PAIRS) <= 2
        assert len([style for style in KINDS[name].styles if (style, name) not in HELD_OUT_STYLES]) >= 2
    for colour in COLOURS:
        assert 4 <= sum(pair[0] == colour for pair in HELD_OUT_PAIRS) <= 5
    assert len(HELD_OUT_PAIRS) / len(CLASSES) / len(COLOURS) == pytest.approx(1 / 7, abs=0.01)
    assert not {name for _, name in HELD_OUT_PAIRS} & {*UNSEEN_CLASSES}


def differing(first: Look, second: Look) -> list[str]:
    return [name for name, value in vars(first).items() if value != getattr(second, name)]


@given(SEEDS, st.sampled_from(CLASSES))
def test_a_twin_differs_in_one_attribute(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    look = draw_look(rng, name)
    assert differing(look, other_than(look, rng, "colour")) == ["colour"]
    twin = other_than(look, rng, "size")
    assert differing(look, twin) == ["relative_size"]
    assert twin.size not in ("", look.size)
    assert not other_than(look, rng, "colour").held_out


def test_what_does_not_stand_so_is_refused() -> None:
    with pytest.raises(ValueError, match="no style of 'bed' stands on the wall; it has plain, head, posts"):
        draw_look(np.random.default_rng(0), "bed", stands="wall")
