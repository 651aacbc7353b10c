"""Whatever is done to a scene, things stay in their boxes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.pretraining.scene_augmentation import Augmentation, augment, fewer

ways = st.builds(
    Augmentation,
    points=st.integers(1, 80),
    share=st.floats(0.1, 1),
    flip=st.floats(0, 1),
    quarter_turns=st.booleans(),
    turn=st.floats(0, 90),
    scale=st.tuples(st.floats(0.5, 1), st.floats(1, 2)),
)


@given(st.integers(0, 10**6), ways)
def test_what_lies_in_a_box_lies_in_it_afterwards(seed: int, how: Augmentation) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.normal(size=(3, 3)), rng.uniform(0.2, 2, (3, 3))], axis=1)
    owners = rng.integers(3, size=60)
    inside = boxes[owners, :3] + rng.uniform(-0.5, 0.5, (60, 3)) * boxes[owners, 3:]
    marked = np.concatenate(
        [inside, owners[:, None], rng.random((60, 2))], axis=1
    )  # colours stay with points
    points, moved = augment(marked.astype(np.float32), boxes, np.random.default_rng(seed), how)
    owner = points[:, 3].astype(int)
    apart = np.abs(points[:, :3] - moved[owner, :3])
    assert (apart <= moved[owner, 3:] / 2 + 1e-4).all()
    assert math.ceil(how.share * 60) * (how.points >= 60) <= len(points) <= min(how.points, 60)
    scale = np.prod(moved[:, 3:], axis=1) / np.prod(boxes[:, 3:], axis=1)
    assert (scale >= how.scale[0] ** 3 - 1e-4).all()  # a turned box grows, and never shrinks
    if not how.turn:
        assert (scale <= how.scale[1] ** 3 + 1e-4).all()


def test_heights_are_shifted_and_scaled_alone() -> None:
    points = np.array([[1.0, 2.0, 0.0, 0, 0, 0], [1.0, 2.0, 3.0, 0, 0, 0]], dtype=np.float32)
    how = Augmentation(turn=180, quarter_turns=True, scale=(2, 2), shift=(1, 1, 0))
    moved, _ = augment(points, np.zeros((0, 6)), np.random.default_rng(0), how)
    assert sorted(moved[:, 2].tolist()) == [0, 6]
    assert moved[0, 0] == moved[1, 0]


def test_the_order_of_points_is_drawn_so_that_voxels_keep_any() -> None:
    points = np.arange(40.0)[:, None]
    firsts = {float(fewer(points, 5, np.random.default_rng(seed))[0, 0]) for seed in range(20)}
    assert len(firsts) > 5
    assert len(fewer(points, 5, np.random.default_rng(0))) == 5
    assert sorted(fewer(points, 99, np.random.default_rng(0))[:, 0].tolist()) == [*range(40)]


@pytest.mark.parametrize("wrong", [{"points": 0}, {"share": 0.0}, {"flip": 1.5}, {"scale": (0.0, 1.0)}])
def test_impossible_changes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        Augmentation(**wrong)  # type: ignore[arg-type]
