"""A vision-language model on one process and on two by DDP: none, one or two images in a sample."""

import pytest
import torch

from tests.octavius import tiny_runs, vision_runs
from tests.octavius.test_processes import Runs, close, finish, same_training, start_two
from tests.tiny_vision import write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both runs; the two processes work while this one does its own share."""
    folder = tmp_path_factory.mktemp("runs")
    base = write("smolvlm", folder / "base")
    processes = start_two(folder, vision_runs.__file__)
    try:
        model = vision_runs.make(base)
        one = {"one": tiny_runs.fit(folder, "one", model, "auto", 1, pieces=vision_runs.Dialogues)[2]}
    finally:
        finish(processes, folder)
    ranks = [torch.load(folder / f"notes-{rank}.pt", weights_only=True) for rank in range(2)]
    return Runs(folder, one, ranks)


def test_two_processes_are_one_with_the_doubled_batch(runs: Runs) -> None:
    for notes in runs.ranks:
        close(notes["ddp"]["logged"], runs.one["one"]["logged"])
        close(notes["ddp"]["norms"], runs.one["one"]["norms"], 1e-4)
    connector = [name for name in runs.one["one"]["norms"][0] if ".connector." in name]
    assert connector
    assert any(step[name] > 0 for step in runs.one["one"]["norms"] for name in connector)
    same_training(runs.checkpoint("ddp"), runs.checkpoint("one"), 1e-4)


def test_answers_and_scores_are_those_of_one_process(runs: Runs) -> None:
    expected = runs.one["one"]["metrics"]
    for notes in runs.ranks:
        assert notes["ddp"]["metrics"] == pytest.approx(expected, rel=1e-6, abs=0, nan_ok=True)
    found, one = runs.predictions("ddp"), runs.predictions("one")
    assert [line["prediction"] for line in found] == [line["prediction"] for line in one]
