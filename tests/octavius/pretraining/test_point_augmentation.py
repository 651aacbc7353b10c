"""Augmentations of point clouds do what they are configured to, and nothing else."""

import pytest
import torch

from octavius.encoders.point_bert import unit_sphere
from octavius.media.meshes import GREY
from octavius.pretraining import point_augmentation
from octavius.pretraining.point_augmentation import SCALES, SHIFT, augment, turned


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_draws_give_the_same_clouds_and_leave_the_given_ones() -> None:
    points = unit_sphere(torch.rand(3, 20, 6))
    before = points.clone()
    assert torch.equal(augment(points, draws()), augment(points, draws()))
    assert not torch.equal(augment(points, draws()), augment(points, draws(1)))
    assert torch.equal(points, before)


def test_without_dropped_points_a_cloud_keeps_its_shape_and_colours() -> None:
    points = unit_sphere(torch.rand(8, 20, 6))
    found = augment(points, draws(), dropout=0)
    before, after = (torch.cdist(cloud[..., :3], cloud[..., :3]) for cloud in (points, found))
    scales = after.flatten(1).sum(1) / before.flatten(1).sum(1)
    torch.testing.assert_close(after, before * scales[:, None, None], atol=1e-4, rtol=1e-4)
    assert scales.min() >= SCALES[0]
    assert scales.max() <= SCALES[1]
    assert (scales.max() - scales.min()) > 0.01
    assert torch.equal(found[..., 3:], points[..., 3:])
    assert found[..., :3].mean(1).norm(dim=1).max() <= SHIFT * 3**0.5 + 1e-4


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_the_large_turn_is_about_the_vertical(up_axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_augmentation, "LEAN", 0.0)
    points = unit_sphere(torch.rand(4, 20, 3))
    found = augment(points, draws(), up_axis, dropout=0)
    for axis in range(3):
        heights, before = found[..., axis], points[..., axis]
        line = torch.stack([before, torch.ones_like(before)], dim=-1)
        fitted = (line @ torch.linalg.lstsq(line, heights[..., None]).solution).squeeze(-1)
        assert torch.allclose(fitted, heights, atol=1e-4) == (axis == up_axis)


def test_dropped_points_lie_on_the_first() -> None:
    points = unit_sphere(torch.rand(64, 40, 6))
    found = augment(points, draws(), dropout=0.5)
    lost = (found == found[:, :1]).all(-1).float().mean(1)
    assert lost.max() < 0.75
    assert 0.15 < lost.mean() < 0.35
    kept = (found[..., 3:] == points[..., 3:]).all(-1)
    assert (kept | (found == found[:, :1]).all(-1)).all()


def test_some_clouds_lose_their_colours_whole() -> None:
    points = unit_sphere(torch.rand(200, 5, 6))
    grey = (augment(points, draws(), colourless=0.3)[..., 3:] == GREY).flatten(1)
    assert torch.equal(grey.all(1), grey.any(1))
    assert 0.2 < grey.all(1).float().mean() < 0.4
    assert augment(points[..., :3], draws(), colourless=1).shape == (200, 5, 3)


@pytest.mark.parametrize(("axis", "start", "end"), [(2, 0, 1), (0, 1, 2), (1, 2, 0)])
def test_turns_are_counter_clockwise(axis: int, start: int, end: int) -> None:
    places = torch.eye(3)[None]
    found = turned(places, torch.tensor([torch.pi / 2]), axis)
    torch.testing.assert_close(found[0, start], torch.eye(3)[end], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[0, axis], torch.eye(3)[axis])


def test_another_vertical_is_told() -> None:
    with pytest.raises(ValueError, match="up_axis = 3"):
        augment(torch.rand(1, 4, 3), draws(), up_axis=3)
