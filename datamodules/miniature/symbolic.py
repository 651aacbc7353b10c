"""Symbolic features of a scene or face: one vector per patch that states its content, instead of image features.

They are the targets of the dense losses of the image encoder, and the language model is pre-trained on them without
images.
"""

import numpy as np

from datamodules.miniature.world import COLOURS, HAIR, SHAPES, SIZE, Face, Scene

GRID = 7
"""Patches along each side of an image."""

WAVES = 8
"""Number of cosines that encode a box edge; a linear function of them resolves about 1/16 of the image."""

CLASSES = (*SHAPES, "face")
WIDTH = 1 + len(CLASSES) + len(COLOURS) + 4 * WAVES + len(HAIR) + 2
"""Length of a patch's features: foreground, class, colour, box code, hair, smile."""

PARTS = {}
"""Slice of each part of the features."""
_start = 0
for _name, _size in (
    ("foreground", 1),
    ("class", len(CLASSES)),
    ("colour", len(COLOURS)),
    ("box", 4 * WAVES),
    ("hair", len(HAIR)),
    ("smile", 2),
):
    PARTS[_name] = slice(_start, _start + _size)
    _start += _size


def owners(boxes: list[tuple[int, int, int, int]], grid: int = GRID, share: float = 0.25) -> np.ndarray:
    """For each patch, the box that covers most of it, if it covers at least the fraction `share`.

    Args:
        boxes: (x1, y1, x2, y2) in pixels.
        grid: patches along each side.
        share: smallest covered fraction of a patch.

    Returns:
        (grid * grid,) indices into `boxes`, row-major; -1 is background.
    """
    side = SIZE / grid
    edges = np.arange(grid) * side
    best = np.full((grid, grid), share * side * side)
    owner = np.full((grid, grid), -1)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        across = np.clip(np.minimum(edges + side, x2) - np.maximum(edges, x1), 0, None)
        down = np.clip(np.minimum(edges + side, y2) - np.maximum(edges, y1), 0, None)
        overlap = down[:, None] * across[None, :]
        owner[overlap >= best] = index
        best = np.maximum(best, overlap)
    return owner.reshape(-1)


def box_code(boxes: np.ndarray) -> np.ndarray:
    """Encodes box edges (..., 4) in 0..1 as cosines cos(pi k x), k = 1..WAVES: (..., 4 * WAVES)."""
    waves = np.cos(np.pi * boxes[..., None] * np.arange(1, WAVES + 1))
    return waves.reshape(*boxes.shape[:-1], 4 * WAVES)


def symbols(facts: Scene | Face, grid: int = GRID) -> np.ndarray:
    """The symbolic features of a scene or face: (grid * grid, WIDTH) float32, zeros for background patches.

    An omitted (empty) shape or colour is encoded as random numbers, seeded by the scene.
    """
    patches = np.zeros((grid * grid, WIDTH), np.float32)
    if isinstance(facts, Face):
        rows = _face_row(facts)[None]
        owner = owners([facts.pixels], grid)
    else:
        rng = np.random.default_rng(facts.detail_seed)
        rows = np.stack([_thing_row(thing.shape, thing.colour, thing.box, rng) for thing in facts.things])
        owner = owners([thing.pixels for thing in facts.things], grid)
    patches[owner >= 0] = rows[owner[owner >= 0]]
    return patches


def _thing_row(shape: str, colour: str, box: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    row = np.zeros(WIDTH, np.float32)
    row[PARTS["foreground"]] = 1
    for part, names, name in (("class", CLASSES, shape), ("colour", COLOURS, colour)):
        row[PARTS[part]] = np.array(names) == name if name else rng.normal(0, 0.5, len(names))
    row[PARTS["box"]] = box_code(np.array(box))
    return row


def _face_row(face: Face) -> np.ndarray:
    row = np.zeros(WIDTH, np.float32)
    row[PARTS["foreground"]] = 1
    row[PARTS["class"].start + CLASSES.index("face")] = 1
    row[PARTS["box"]] = box_code(np.array(face.box))
    row[PARTS["hair"].start + HAIR.index(face.hair)] = 1
    row[PARTS["smile"].start + int(face.smile)] = 1
    return row
