"""The same step of an alignment on one process and on two: gradients, views and scores are equal."""

from pathlib import Path

import pytest
import torch

from tests.octavius.pretraining import point_processes
from tests.octavius.pretraining.test_points import write_clip
from tests.octavius.test_processes import finish, start_two


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip")
    processes = start_two(tmp_path, point_processes.__file__)
    for owner, name in ((point_processes.points, "augment"), (point_processes.Step, "_targets")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back at the end
    one = point_processes.run(tmp_path, 1)
    finish(processes, tmp_path)
    ranks = [torch.load(tmp_path / f"found-{rank}.pt", weights_only=True) for rank in range(2)]
    for found in ranks:
        assert found["batch"]["gradients"].keys() == one["batch"]["gradients"].keys()
        for name, gradient in one["batch"]["gradients"].items():
            torch.testing.assert_close(found["batch"]["gradients"][name], gradient, atol=1e-5, rtol=1e-3)
        for negatives in ("batch", "bank"):
            torch.testing.assert_close(found[negatives]["views"], one[negatives]["views"])
            assert found[negatives]["figures"]["objects"] == point_processes.ASKED
        assert found["batch"]["figures"] == one["batch"]["figures"]
    for name, gradient in ranks[0]["bank"]["gradients"].items():
        torch.testing.assert_close(gradient, ranks[1]["bank"]["gradients"][name])
