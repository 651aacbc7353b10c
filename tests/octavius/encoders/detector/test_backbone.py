"""The sparse networks have the published sizes, and prune and grow voxels as specified."""

import pytest
import torch

from octavius.encoders.detector.backbone import MinkResNet
from octavius.encoders.detector.detector import Design, Detector
from octavius.encoders.detector.fcaf3d import FCAF3DHead, face_boxes
from octavius.encoders.detector.tr3d import TR3DHead
from octavius.encoders.sparse.keys import pack
from octavius.encoders.sparse.tensor import SparseTensor, voxelise
from octavius.encoders.sparse.voxels import Voxels
from tests.octavius.encoders.detector.toys import BOXES, LABELS, detector, scene

CLASSES = tuple("abcdefghijklmnopqr")


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        fcaf3d, tr3d = Detector(CLASSES), Detector(CLASSES, "tr3d")
    count = {name: sum(part.numel() for part in model.parameters()) for name, model in vars_of(fcaf3d, tr3d)}
    assert round(count["fcaf3d"] / 1e6, 2) == 70.48
    assert round(count["fcaf3d backbone"] / 1e6, 2) == 63.46
    assert round(count["tr3d"] / 1e6, 2) == 14.66
    assert fcaf3d.level_spacings == pytest.approx((0.08, 0.16, 0.32, 0.64))
    assert tr3d.level_spacings == pytest.approx((0.16, 0.32))


def vars_of(fcaf3d: Detector, tr3d: Detector) -> list[tuple[str, torch.nn.Module]]:
    return [("fcaf3d", fcaf3d), ("fcaf3d backbone", fcaf3d.backbone), ("tr3d", tr3d)]


@pytest.mark.parametrize("pool", [True, False])
def test_each_stage_doubles_the_voxels(pool: bool) -> None:
    points = scene(BOXES, LABELS)
    tensor = voxelise(points[:, :3], points[:, 3:], 0.05)
    network = MinkResNet(3, (4, 6, 8), (1, 2, 1), stem=5, pool=pool)
    found = network(tensor)
    assert [stage.voxels.stride for stage in found] == list(network.strides)
    assert network.strides == ((8, 16, 32) if pool else (4, 8, 16))
    assert [stage.features.shape[1] for stage in found] == [4, 6, 8]
    assert all(bool((stage.features >= 0).all()) for stage in found)
    # what a stage sees is exactly where points lie
    cells = (points[:, :3] / 0.05 / network.strides[0]).floor().unique(dim=0)
    assert torch.equal(found[0].voxels.coords[:, 1:].float(), cells * network.strides[0])


def test_stages_and_blocks_must_fit() -> None:
    with pytest.raises(ValueError, match="as many of the one as of the other"):
        MinkResNet(3, (8, 8), (1,))


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
    inside = ((said.places - BOXES[0, :3]).abs() < 0.25).all(1)
    assert inside.any()  # no point lies in the middle of a box, but a location does


@pytest.mark.parametrize(
    ("grown_from", "grows"), [(0, (True, True)), (1, (False, True)), (2, (False, False))]
)
def test_tr3d_grows_voxels_where_it_is_told_to(grown_from: int, grows: tuple[bool, bool]) -> None:
    points = scene(BOXES, LABELS)
    design = Design(0.05, (4, 4, 4), (1, 1, 1), 4, False, 4, skip=0, grown_from=grown_from)
    model = Detector("ab", "tr3d", design).eval()
    said = model(points, torch.zeros(len(points), dtype=torch.long))
    for level, spacing in enumerate(model.level_spacings):
        own = {tuple(row) for row in (points[:, :3] / spacing).floor().long().tolist()}
        places = said.places[said.levels == level]
        found = {tuple(row) for row in (places / spacing).round().long().tolist()}
        assert len(found) == len(places)
        assert own < found if grows[level] else own == found


def test_tr3d_needs_two_stages() -> None:
    with pytest.raises(ValueError, match="two stages"):
        TR3DHead(2, (8, 8), skip=1)
