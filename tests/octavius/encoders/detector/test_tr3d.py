"""TR3D's head: where voxels grow, and the stages that it needs."""

import pytest
import torch

from octavius.encoders.detector.detector import Design, Detector
from octavius.encoders.detector.tr3d import TR3DHead
from tests.octavius.encoders.detector.toys import BOXES, LABELS, scene


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
        places = said.positions[said.levels == level]
        found = {tuple(row) for row in (places / spacing).round().long().tolist()}
        assert len(found) == len(places)
        assert own < found if grows[level] else own == found


def test_tr3d_needs_two_stages() -> None:
    with pytest.raises(ValueError, match="two stages"):
        TR3DHead(2, (8, 8), skip=1)
