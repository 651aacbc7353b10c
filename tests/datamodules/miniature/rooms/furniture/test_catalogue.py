"""The grammar of things: appearances are as asked, built things stand on the floor, and their named colour rules."""

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
    Appearance,
    Shift,
    built,
    draw_appearance,
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
        appearance = replace(
            draw_appearance(np.random.default_rng(seed), name), style=style, relative_size=seed / 3
        )
        thing = built(appearance)
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
    appearance = replace(draw_appearance(np.random.default_rng(0), name), style=style)
    shares: dict[str, float] = {}
    for part in built(appearance).parts:
        shares[part.role] = shares.get(part.role, 0) + area(part)
    assert max(shares, key=lambda role: shares[role]) == "body"


@given(SEEDS, NAMES, st.sampled_from(["none", "pairs"]))
def test_looks_are_held_out_only_where_asked(seed: int, name: str, shift: Shift) -> None:
    appearance = draw_appearance(np.random.default_rng(seed), name, shift)
    assert appearance.accent != appearance.colour
    if name in UNSEEN_CLASSES:
        assert appearance.held_out
    elif shift == "none":
        assert not appearance.held_out
        assert (appearance.colour, name) not in HELD_OUT_PAIRS
        assert (appearance.style, name) not in HELD_OUT_STYLES


def test_about_half_of_a_shifted_set_is_held_out_by_colour_or_style() -> None:
    rng = np.random.default_rng(0)
    appearances = [draw_appearance(rng, name, "pairs") for name in CLASSES for _ in range(30)]
    assert np.mean([appearance.held_out for appearance in appearances]) == pytest.approx(0.5, abs=0.05)
    by_style = {
        appearance.name
        for appearance in appearances
        if (appearance.style, appearance.name) in HELD_OUT_STYLES
    }
    assert by_style == {name for _, name in HELD_OUT_STYLES}


def test_every_class_and_colour_is_still_seen() -> None:
    for name in CLASSES:
        assert 1 <= sum(pair[1] == name for pair in HELD_OUT_PAIRS) <= 2
        assert len([style for style in KINDS[name].styles if (style, name) not in HELD_OUT_STYLES]) >= 2
    for colour in COLOURS:
        assert 4 <= sum(pair[0] == colour for pair in HELD_OUT_PAIRS) <= 5
    assert len(HELD_OUT_PAIRS) / len(CLASSES) / len(COLOURS) == pytest.approx(1 / 7, abs=0.01)
    assert not {name for _, name in HELD_OUT_PAIRS} & {*UNSEEN_CLASSES}


def differing(first: Appearance, second: Appearance) -> list[str]:
    return [name for name, value in vars(first).items() if value != getattr(second, name)]


@given(SEEDS, st.sampled_from(CLASSES))
def test_a_twin_differs_in_one_attribute(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    appearance = draw_appearance(rng, name)
    assert differing(appearance, other_than(appearance, rng, "colour")) == ["colour"]
    twin = other_than(appearance, rng, "size")
    assert differing(appearance, twin) == ["relative_size"]
    assert twin.size not in ("", appearance.size)
    assert not other_than(appearance, rng, "colour").held_out


def test_what_does_not_stand_so_is_refused() -> None:
    with pytest.raises(ValueError, match="no style of 'bed' stands on the wall; it has plain, head, posts"):
        draw_appearance(np.random.default_rng(0), "bed", stands="wall")
