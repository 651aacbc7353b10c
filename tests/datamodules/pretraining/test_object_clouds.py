"""Crops of single objects, and bad clouds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.pretraining.object_clouds import Facts, ObjectCloud, read_objects
from octavius.instruction.sample import ClassName, Media, Region, Sample
from octavius.media.crops import inside


def test_a_box_that_moved_off_its_points_is_taken_as_it_is() -> None:
    points = torch.rand(40, 6) * 0.01  # in a corner of a large box
    one = ObjectCloud("k", "chair", ("chair",), (1.0, 1.0, 1.0, 2.1, 2.1, 2.1), points, Facts())
    for seed in range(20):
        assert one.crop(40, 0.5, torch.Generator().manual_seed(seed)).shape == (40, 6)


def clouds_of(folder: Path) -> Iterator[Sample]:
    """Samples of a whole cloud, of one with few points in its box, of an empty and a single-point one."""
    arrays = {
        "good": np.random.default_rng(0).uniform(0, 1, (60, 3)),
        "few": np.random.default_rng(0).uniform(5, 6, (60, 3)),
        "empty": np.zeros((0, 3)),
        "single": np.zeros((1, 3)),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        region = Region(name, (0.5, 0.5, 0.5, 1.0, 1.0, 1.0))
        media = {"cloud": Media(path=folder / f"{name}.npy", region=region)}
        yield Sample(name, "classification3d", "made up", media, "", ClassName("box", ("box", "bed")))


def test_bad_clouds_are_told_or_left_out(tmp_path: Path) -> None:
    samples = list(clouds_of(tmp_path))
    for sample, said in zip(
        samples[1:], ("it has 0 points within 5 cm", "empty", "single point"), strict=True
    ):
        with pytest.raises(ValueError, match=said):
            read_objects([sample], {}, 0.1, "error", tmp_path)
    with pytest.warns(UserWarning, match="3 bad items left out"):
        kept = read_objects(samples, {}, 0.1, "skip", tmp_path)
    assert [one.key for one in kept] == ["good"]
    assert len(inside(kept[0].points, kept[0].box or ())) == 60
