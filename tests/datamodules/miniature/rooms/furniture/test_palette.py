"""Tones of colours do not overlap."""

import colorsys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.rooms.furniture.palette import COLOURS, TONES, tone

SEEDS = st.integers(0, 2**31)


@given(SEEDS, st.sampled_from(COLOURS))
def test_a_tone_lies_in_its_own_range_alone(seed: int, colour: str) -> None:
    red, green, blue = tone(colour, np.random.default_rng(seed))
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)

    def inside(limits: tuple[tuple[float, float], ...], slack: float) -> bool:
        (h1, h2), (s1, s2), (v1, v2) = limits
        around = any(h1 - slack <= hue + turn <= h2 + slack for turn in (-1, 0, 1))
        return around and s1 - slack <= saturation <= s2 + slack and v1 - slack <= value <= v2 + slack

    assert [name for name, limits in TONES.items() if inside(limits, 0.005)] == [colour]
