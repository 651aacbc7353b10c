"""FCAF3D's head: pruning, boxes of faces, and voxels that it fills in."""

import pytest
import torch

from octavius.encoders.detector.fcaf3d import FCAF3DHead, face_boxes
from octavius.encoders.sparse.keys import pack
from octavius.encoders.sparse.tensor import SparseTensor
from octavius.encoders.sparse.voxels import Voxels
from tests.octavius.encoders.detector.toys import BOXES, LABELS, detector, scene


def test_pruning_keeps_what_the_coarser_level_promises_most() -> None:
    head = FCAF3DHead(1, (4, 4), 4, keep=3)
    fine = torch.tensor([[b, 2 * x, 0, 0] for b in (0, 1) for x in range(6)])
    fine_voxels = Voxels(pack(fine).sort().values, 2, 2)
    coarse = torch.tensor([[b, 4 * x, 0, 0] for b in (0, 1) for x in range(3)])
    # logits by scene and coarse voxel; a fine voxel between two takes their mean, the last one half of its own
    promise = torch.tensor([[-4.0], [-2.0], [-8.0], [-8.0], [-6.0], [-1.0]])
    left = head.pruned(
        SparseTensor(torch.ones(12, 4), fine_voxels), SparseTensor(promise, Voxels(pack(coarse), 4, 2))
    )
    values: list[list[float]] = [[-4, -3, -2, -5, -8, -4], [-8, -7, -6, -3.5, -1, -0.5]]
    wanted = [(b, 2 * x) for b in (0, 1) for x in sorted(sorted(range(6), key=lambda x: -values[b][x])[:3])]
    assert [(b, x) for b, x, *_ in left.voxels.coords.tolist()] == wanted


def test_faces_become_boxes() -> None:
    faces = torch.tensor([[0.1, 0.3, 0.2, 0.2, 0.5, 0.1]])
    assert face_boxes(faces)[0].tolist() == pytest.approx([0.1, 0, -0.2, 0.4, 0.4, 0.6])


def test_fcaf3d_fills_in_voxels_and_keeps_to_the_limit() -> None:
    model = detector("fcaf3d").eval()
    points = scene(BOXES, LABELS)
    said = model(points, torch.zeros(len(points), dtype=torch.long))
    fine = int((said.levels == 0).sum())
    occupied = len((points[:, :3] / 0.4).floor().unique(dim=0))
    assert occupied < fine <= model.design.keep
    inside = ((said.positions - BOXES[0, :3]).abs() < 0.25).all(1)
    assert inside.any()  # no point lies in the middle of a box, but a location does
