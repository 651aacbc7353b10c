"""Named colours as ranges of hue, saturation and value, well separated from each other, and further colours."""

import colorsys

import numpy as np

from datamodules.miniature.rooms.furniture.solids import Triple

TONES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-0.02, 0.015), (0.78, 0.95), (0.62, 0.82)),
    "orange": ((0.065, 0.085), (0.82, 0.95), (0.88, 1.0)),
    "yellow": ((0.14, 0.165), (0.72, 0.9), (0.88, 1.0)),
    "green": ((0.3, 0.38), (0.6, 0.85), (0.42, 0.65)),
    "blue": ((0.58, 0.64), (0.68, 0.9), (0.52, 0.78)),
    "purple": ((0.75, 0.8), (0.5, 0.72), (0.42, 0.6)),
    "pink": ((0.9, 0.94), (0.32, 0.48), (0.92, 1.0)),
    "brown": ((0.05, 0.08), (0.55, 0.72), (0.28, 0.4)),
    "black": ((0.0, 1.0), (0.0, 0.15), (0.04, 0.12)),
    "grey": ((0.0, 1.0), (0.0, 0.06), (0.42, 0.54)),
    "white": ((0.0, 1.0), (0.0, 0.05), (0.92, 1.0)),
}
"""Ranges of hue, saturation and value of each named colour."""

COLOURS = tuple(TONES)

TRIMS: dict[str, Triple] = {
    "light wood": (0.74, 0.6, 0.42),
    "dark wood": (0.36, 0.26, 0.19),
    "metal": (0.62, 0.64, 0.67),
    "paint": (0.84, 0.83, 0.8),
}
"""Colours of legs, frames and handles, which no text mentions."""

DARK: Triple = (0.09, 0.09, 0.1)
LIGHT: Triple = (0.9, 0.89, 0.86)
"""Colours of the roles `dark` and `light`."""

FLOORS: tuple[Triple, ...] = ((0.55, 0.42, 0.3), (0.66, 0.64, 0.6), (0.42, 0.36, 0.33), (0.72, 0.66, 0.55))
WALLS: tuple[Triple, ...] = ((0.86, 0.85, 0.81), (0.8, 0.82, 0.84), (0.87, 0.82, 0.72), (0.76, 0.8, 0.74))


def tone(colour: str, rng: np.random.Generator) -> Triple:
    """A random tone of a named colour: red, green, blue in 0..1."""
    hue, saturation, value = (rng.uniform(*limits) for limits in TONES[colour])
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
