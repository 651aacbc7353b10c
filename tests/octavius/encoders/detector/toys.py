"""Toy scenes (surfaces of boxes and a floor) and small detectors for them."""

import torch
from torch import Tensor

from octavius.encoders.detector.detector import Design, Detector, HeadName

CLASSES = ("cube", "slab")
BOXES = torch.tensor([[0.6, 0.5, 0.4, 0.8, 0.8, 0.8], [2.0, 1.5, 0.3, 1.2, 0.8, 0.6]])
LABELS = torch.tensor([0, 1])
TINY = Design(
    0.1, (8, 16), (1, 1), stem=8, pool=False, channels=16, geometry=True, skip=0, grown_from=1, keep=400
)


def scene(boxes: Tensor, labels: Tensor, points: int = 400, seed: int = 0) -> Tensor:
    """Points (P, 6) on the faces of boxes, each class of its own colour, and on a grey floor."""
    rng = torch.Generator().manual_seed(seed)
    found = [torch.cat([torch.rand(points, 2, generator=rng) * 3, torch.zeros(points, 1)], 1)]
    colours = [torch.full((points, 3), 0.5)]
    for box, label in zip(boxes, labels, strict=True):
        unit = torch.rand(points, 3, generator=rng) - 0.5
        axis = torch.randint(0, 3, (points,), generator=rng)
        rows = torch.arange(points)
        unit[rows, axis] = unit[rows, axis].sign() / 2  # on one of the six faces
        found.append(unit * box[3:] + box[:3])
        colours.append(torch.eye(3)[label].expand(points, 3))
    return torch.cat([torch.cat(found), torch.cat(colours)], dim=1)


def detector(head: HeadName) -> Detector:
    """A detector of some thousand weights; the cube is found at the finer level of TR3D."""
    torch.manual_seed(0)
    return Detector(CLASSES, head, TINY, class_levels=(0, 0))


def one_batch(points: Tensor) -> Tensor:
    """The batch vector of a single scene."""
    return torch.zeros(len(points), dtype=torch.long)
