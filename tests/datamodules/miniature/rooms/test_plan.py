"""Groups stand as they are described, and a blocked floor stays free."""

import numpy as np
import pytest

from datamodules.miniature.rooms.plan import Plan


def test_a_group_stands_as_its_words_say() -> None:
    for seed in range(12):
        plan = Plan(np.random.default_rng(seed), (6, 6, 2.6), "none")
        desk = plan.against(plan.appearance("desk"))
        assert desk is not None
        assert desk.front is not None
        chair = plan.before(desk, plan.appearance("office chair"), 0.2, faces_it=True)
        assert chair is not None
        ahead = np.array(chair.at[:2]) - np.array(desk.at[:2])
        assert ahead @ np.array(desk.front) > 0
        assert chair.front == (-desk.front[0], -desk.front[1])
        lamp = plan.upon(desk, plan.appearance("lamp", "top"))
        assert lamp is None or lamp.box[2] == pytest.approx(desk.box[5])


def test_a_blocked_floor_stays_free() -> None:
    plan = Plan(np.random.default_rng(0), (4, 4, 2.5), "none")
    door = plan.hung(plan.appearance("door"))
    assert door is not None
    plan.block(door, 4.0)
    width = door.box[3] - door.box[0], door.box[4] - door.box[1]
    assert plan.blocked[0][3] - plan.blocked[0][0] + plan.blocked[0][4] - plan.blocked[0][1] == pytest.approx(
        sum(width) + 4.0
    )
    x, y = door.at[0] + 2 * door.front[0], door.at[1] + 2 * door.front[1]  # type: ignore[index]
    assert not plan.fits((x - 0.1, y - 0.1, 0, x + 0.1, y + 0.1, 0.5))
    assert plan.fits((x - 0.1, y - 0.1, 1.5, x + 0.1, y + 0.1, 2.0))
