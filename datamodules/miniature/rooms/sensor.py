"""Simulated scan of a room: points that some depth cameras see, with colours, noise and holes."""

import math
from dataclasses import dataclass

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import Appearance, built
from datamodules.miniature.rooms.furniture.palette import DARK, FLOORS, LIGHT, TRIMS, WALLS, tone
from datamodules.miniature.rooms.furniture.solids import area, surface
from datamodules.miniature.rooms.room import Room

VERSION = 1
"""Incremented when the same room yields other points."""

FINE, COARSE, FLOOR_DENSITY, WALL_DENSITY = 1500, 600, 100, 60
"""Points per square metre of small objects, of larger ones, of the floor and of walls, before occlusion."""

SMALL = 0.8
"""An object whose longest side is below this, in metres, is small."""

EYE = (1.4, 2.3)
"""Range of camera heights in metres, up to above high furniture."""

ROWS, COLUMNS = 128, 256
"""Size of the camera's panoramic depth image: elevation x azimuth."""

SPAN = 3 * math.pi / ROWS
"""Upper bound of the angle in radians between two points in neighbouring pixels."""

CLOSE = 1.3
"""Below this distance in metres, sampled points are several pixels apart, so each occludes two pixels around it."""

VOXEL = 0.02
"""Cell size in metres of the grid that keeps one point per cell."""

FEWEST, LEAST_SHARE = 50, 0.1
"""Minimum number of points, and minimum visible fraction of the surface, of an object that is annotated."""

FLOOR, WALL, NOTHING = -1, -2, -3
"""Owners of points that belong to no object: floor, walls, and stray points."""


@dataclass(frozen=True)
class Scan:
    """A simulated scan, in the frame of the room.

    Attributes:
        points: (N, 3) float32, metres.
        colours: (N, 3) uint8.
        segments: (N,) index of the surface patch of each point; all points of a patch have one owner.
        owners: (N,) number of the object of each point, or `FLOOR`, `WALL`, `NOTHING`.
        shares: visible fraction of each object's surface, by the object's number.
    """

    points: np.ndarray
    colours: np.ndarray
    segments: np.ndarray
    owners: np.ndarray
    shares: tuple[float, ...]

    @property
    def seen(self) -> tuple[int, ...]:
        """Numbers of the objects that are visible enough to be annotated."""
        counts = np.bincount(self.owners[self.owners >= 0], minlength=len(self.shares))
        return tuple(
            number
            for number, share in enumerate(self.shares)
            if counts[number] >= FEWEST and share >= LEAST_SHARE
        )


@dataclass
class _Cloud:
    """Points (N, 3) with normals (N, 3), colours (N, 3) in 0..1, segments (N,) and owners (N,)."""

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    segments: np.ndarray
    owners: np.ndarray

    def only(self, kept: np.ndarray) -> "_Cloud":
        """The rows selected by a mask or indices."""
        return _Cloud(*[rows[kept] for rows in vars(self).values()])


def scan(room: Room) -> Scan:
    """Simulates the scan of a room, deterministically."""
    rng = np.random.default_rng(room.detail_seed)
    whole = _joined([*_pieces(room, rng), *_shell(room, rng)])
    distance = nearest_view(whole.points, whole.normals, _cameras(room, rng))
    total = np.bincount(whole.owners[whole.owners >= 0], minlength=len(room.pieces))
    seen = np.bincount(whole.owners[(whole.owners >= 0) & np.isfinite(distance)], minlength=len(room.pieces))
    kept = np.isfinite(distance) & ~_holes(whole.points, rng)
    cloud, distance = whole.only(kept), distance[kept]
    thin = thinned(cloud.points)
    cloud, distance = cloud.only(thin), distance[thin]
    light = rng.uniform(0.8, 1.1) * rng.uniform(0.95, 1.05, 3)
    colours = cloud.colours * _shade(cloud.normals)[:, None] * light + rng.normal(
        0, 0.03, cloud.colours.shape
    )
    sigma = 0.002 + 0.0015 * distance**2 / 9  # depth cameras are noisier at a distance
    points = cloud.points + rng.normal(size=cloud.points.shape) * sigma[:, None]
    stray = _strays(room, cloud, rng)
    points, colours = np.concatenate([points, stray.points]), np.concatenate([colours, stray.colours])
    order = rng.permutation(len(points))
    return Scan(
        points[order].astype(np.float32),
        (np.clip(colours[order], 0, 1) * 255).round().astype(np.uint8),
        np.concatenate([cloud.segments, stray.segments])[order],
        np.concatenate([cloud.owners, stray.owners])[order],
        tuple(float(share) for share in seen / np.maximum(total, 1)),
    )


def paint(appearance: Appearance) -> dict[str, np.ndarray]:
    """Colour (3,), red, green, blue in 0..1, of each role of an object's parts."""
    rng = np.random.default_rng([appearance.detail_seed, 1])
    body, accent = tone(appearance.colour, rng), tone(appearance.accent, rng)
    named = {"body": body, "accent": accent, "trim": TRIMS[appearance.trim], "dark": DARK, "light": LIGHT}
    return {role: np.array(colour) for role, colour in named.items()}


def whole_thing(
    appearance: Appearance, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) in metres on the whole surface of an object at the origin, and colours (count, 3) in 0..1."""
    parts, colours = built(appearance).parts, paint(appearance)
    areas = np.array([area(part) for part in parts])
    counts = rng.multinomial(count, areas / areas.sum())
    found = [surface(part, int(n), rng) for part, n in zip(parts, counts, strict=True)]
    painted = [np.tile(colours[part.role], (int(n), 1)) for part, n in zip(parts, counts, strict=True)]
    return np.concatenate([points for points, _ in found]), np.concatenate(painted)


def _pieces(room: Room, rng: np.random.Generator) -> list[_Cloud]:
    """All surfaces of all objects, one segment per part."""
    clouds, segment = [], 0
    for piece in room.pieces:
        colours = paint(piece.appearance)
        c, s = math.cos(piece.yaw), math.sin(piece.yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        sides = [high - low for low, high in zip(piece.box[:3], piece.box[3:], strict=True)]
        density = FINE if max(sides) < SMALL else COARSE
        for part in built(piece.appearance).parts:
            count = max(4, int(area(part) * density))
            points, normals = surface(part, count, rng)
            clouds.append(
                _Cloud(
                    points @ turn.T + np.array(piece.at),
                    normals @ turn.T,
                    np.tile(colours[part.role], (count, 1)),
                    np.full(count, segment),
                    np.full(count, piece.number),
                )
            )
            segment += 1
    return clouds


def _shell(room: Room, rng: np.random.Generator) -> list[_Cloud]:
    """Floor and walls, without the walls behind what hangs on them."""
    w, d, h = room.size
    segment = sum(len(built(piece.appearance).parts) for piece in room.pieces)
    floor, wall = (np.array(pool[int(rng.integers(len(pool)))]) for pool in (FLOORS, WALLS))
    faces = [((w, d, 0.0), (0.0, 0.0, 0.0), (0, 0, 1), FLOOR)]
    for x in (-1, 1):
        faces.append(((0.0, d, h), (x * w / 2, 0.0, h / 2), (-x, 0, 0), WALL))
    for y in (-1, 1):
        faces.append(((w, 0.0, h), (0.0, y * d / 2, h / 2), (0, -y, 0), WALL))
    hung = np.array([piece.box for piece in room.pieces if piece.appearance.way.stands == "wall"]).reshape(
        -1, 6
    )
    clouds = []
    for number, (size, middle, normal, owner) in enumerate(faces):
        flat = math.prod(side for side in size if side)
        count = int(flat * (FLOOR_DENSITY if owner == FLOOR else WALL_DENSITY))
        points = rng.uniform(-0.5, 0.5, (count, 3)) * np.array(size) + np.array(middle)
        reach = np.array([0.07, 0.07, 0.0])
        behind = (
            ((points[:, None] > hung[None, :, :3] - reach) & (points[:, None] < hung[None, :, 3:] + reach))
            .all(2)
            .any(1)
        )
        points = points[~behind]
        tile = np.tile(floor if owner == FLOOR else wall, (len(points), 1))
        ones = np.ones(len(points), int)
        clouds.append(
            _Cloud(
                points,
                np.tile(np.array(normal, float), (len(points), 1)),
                tile,
                ones * (segment + number),
                ones * owner,
            )
        )
    return clouds


def nearest_view(points: np.ndarray, normals: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest camera that sees it, (N,); infinite if none does.

    A camera sees a point that faces it and is not clearly behind another point in the same pixel or a neighbouring
    one. Neighbours count because sampled surfaces are sparse, especially at close range, and must still occlude.
    An oblique surface spans more depth within a pixel than a frontal one, and must not occlude itself.

    Args:
        points: (N, 3).
        normals: (N, 3) outward normals; zero for a surface that is visible from both sides.
        cameras: (C, 3) positions.
    """
    best = np.full(len(points), np.inf)
    for camera in cameras:
        ray = points - camera
        distance = np.linalg.norm(ray, axis=1)
        row = (np.arcsin(np.clip(ray[:, 2] / distance, -1, 1)) / math.pi + 0.5) * ROWS
        column = (np.arctan2(ray[:, 1], ray[:, 0]) / (2 * math.pi) + 0.5) * COLUMNS
        pixel = row.astype(int).clip(0, ROWS - 1) * COLUMNS + column.astype(int) % COLUMNS
        close = distance < CLOSE
        depth = _around(_depth(pixel, distance))
        depth = np.minimum(depth, _around(_around(_depth(pixel[close], distance[close]))))
        cosine = -np.einsum("ni,ni->n", normals, ray) / distance
        slant = np.sqrt(np.clip(1 - cosine**2, 0, 1)) / np.maximum(cosine, 0.1)
        slant = np.where(normals.any(1), slant, 1.0)
        span = np.where(distance < 1.5 * CLOSE, SPAN * 5 / 3, SPAN)
        slack = np.maximum(0.05, np.minimum(span * distance * slant, 0.25))
        clear = distance <= depth.reshape(-1)[pixel] + slack
        best = np.where(clear & (cosine >= 0), np.minimum(best, distance), best)
    return best


def _depth(pixel: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Smallest distance per pixel, (ROWS, COLUMNS); infinite without points."""
    depth = np.full(ROWS * COLUMNS, np.inf)
    np.minimum.at(depth, pixel, distance)
    return depth.reshape(ROWS, COLUMNS)


def _around(depth: np.ndarray) -> np.ndarray:
    """Minimum over each pixel and its eight neighbours; columns wrap around."""
    sides = np.minimum(np.minimum(np.roll(depth, 1, 1), np.roll(depth, -1, 1)), depth)
    above = np.concatenate([sides[1:], sides[-1:]])
    below = np.concatenate([sides[:1], sides[:-1]])
    return np.minimum(np.minimum(above, below), sides)


def _cameras(room: Room, rng: np.random.Generator) -> np.ndarray:
    """Up to six positions (C, 3) in different parts of the room, half a metre from objects if possible."""
    w, d, _ = room.size
    boxes = np.array([piece.box for piece in room.pieces]).reshape(-1, 6)
    corners = ((-1, -1), (1, 1), (-1, 1), (1, -1), (0, 0), (0, 0))
    positions = []
    for x, y in corners[: int(rng.integers(3, 7))]:
        for distance in (*[0.5] * 20, *[0.2] * 20):
            spot = np.array([(x + rng.uniform(-0.7, 0.7)) * w / 4, (y + rng.uniform(-0.7, 0.7)) * d / 4, 0])
            spot[2] = rng.uniform(*EYE)
            if not ((spot > boxes[:, :3] - distance) & (spot < boxes[:, 3:] + distance)).all(1).any():
                positions.append(spot)
                break
    return np.array(positions).reshape(-1, 3)


def _holes(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mask (N,) of the points in up to three holes, 10 to 30 cm across."""
    missing = np.zeros(len(points), bool)
    for _ in range(int(rng.integers(4))):
        centre = points[int(rng.integers(len(points)))]
        missing |= ((points - centre) ** 2).sum(1) < rng.uniform(0.05, 0.15) ** 2
    return missing


def thinned(points: np.ndarray) -> np.ndarray:
    """Indices of one point per cell of a grid with cells of size `VOXEL`."""
    cell = np.floor(points / VOXEL).astype(np.int64) + 1024
    _, first = np.unique((cell[:, 0] * 4096 + cell[:, 1]) * 4096 + cell[:, 2], return_index=True)
    return np.sort(first)


def _strays(room: Room, cloud: _Cloud, rng: np.random.Generator) -> _Cloud:
    """Stray points, 1 % of the scan, at random positions in the room and with colours of random other points."""
    count = len(cloud.points) // 100
    w, d, h = room.size
    points = rng.uniform((-w / 2, -d / 2, 0), (w / 2, d / 2, h), (count, 3))
    colours = cloud.colours[rng.integers(len(cloud.colours), size=count)]
    segment = 5 + sum(len(built(piece.appearance).parts) for piece in room.pieces)
    return _Cloud(points, points * 0, colours, np.full(count, segment), np.full(count, NOTHING))


def _shade(normals: np.ndarray) -> np.ndarray:
    """Brightness (N,) from normals (N, 3), largest for upward ones; zero normals give that of a wall."""
    return 0.875 + 0.125 * normals @ np.array([0.18, 0.31, 0.93])


def _joined(clouds: list[_Cloud]) -> _Cloud:
    return _Cloud(*[np.concatenate(rows) for rows in zip(*[vars(c).values() for c in clouds], strict=True)])
