"""The sparse networks have the published sizes, and prune and grow voxels as specified."""

import pytest
import torch

from octavius.encoders.detector.backbone import MinkResNet
from octavius.encoders.detector.detector import Detector
from octavius.encoders.sparse.tensor import voxelise
from tests.octavius.encoders.detector.toys import BOXES, LABELS, scene

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
