"""Single objects are written as the reader of ShapeNet expects them."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmarks import read
from datamodules.miniature.rooms.shapenet import POINTS, SUBJECTS
from octavius.instruction.sample import ClassName
from octavius.media.clouds import read_points


@pytest.mark.parametrize(("world", "split"), [("seen", "train"), *((world, "test") for world in SUBJECTS)])
def test_readers_find_single_things(rooms_root: Path, world: str, split: str) -> None:
    samples = read("shapenet_classification", rooms_root / world, split)
    names = [sample.gold.name for sample in samples if isinstance(sample.gold, ClassName)]
    assert names == list(SUBJECTS[world])
    for sample in samples:
        points = read_points(sample.media["cloud"])[:, :3]
        assert points.shape == (POINTS, 3)
        assert points.mean(0) == pytest.approx(np.zeros(3), abs=1e-5)
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-5)
    tall = next(sample for sample in samples if sample.gold == ClassName(names[0], tuple(sorted(set(names)))))
    path = tall.media["cloud"].path
    assert path is not None
    assert np.load(path).dtype == np.float32


def test_things_stand_upright_after_the_readers_turn(rooms_root: Path) -> None:
    """A table's top is above: its points crowd at the upper end."""
    samples = read("shapenet_classification", rooms_root / "seen", "test")
    [table] = [
        sample for sample in samples if isinstance(sample.gold, ClassName) and sample.gold.name == "table"
    ]
    heights = read_points(table.media["cloud"])[:, 2]
    assert (heights > np.quantile([heights.min(), heights.max()], 0.8)).mean() > 0.5
