"""The number of decimals in box answers is a setting of the data, the same for training and evaluation."""

import random
import re
from pathlib import Path

import pytest

from datamodules.images import ImageInstructions
from datamodules.sources import Source
from octavius.instruction.sample import Sample
from octavius.tasks import TASKS
from tests.datamodules.instructions.official import write_coco


def answers(samples: list[Sample]) -> list[str]:
    return [TASKS["detection"].answer(sample, random.Random(0)) for sample in samples]


@pytest.mark.parametrize("decimals", [1, 2, 3, 6])
def test_answers_have_so_many_decimals(tmp_path: Path, decimals: int) -> None:
    source = Source("coco_detection", split="val2017")
    root = str(write_coco(tmp_path))
    data = ImageInstructions(root, train=[source], test=[source], box_decimals=decimals)
    trained, tested = list(data.train_sets()[0].samples), list(data.eval_sets("test")[0].samples)
    assert answers(trained) == answers(tested)
    numbers = re.findall(r"\d+\.(\d+)", " ".join(answers(trained)))
    assert numbers
    assert {len(digits) for digits in numbers} == {decimals}
    if decimals == 2:
        assert answers(trained) == answers(
            list(ImageInstructions(root, train=[source]).train_sets()[0].samples)
        )


@pytest.mark.parametrize("decimals", [0, 7, -1])
def test_numbers_of_decimals_that_mean_nothing(decimals: int) -> None:
    with pytest.raises(
        ValueError,
        match=f"box_decimals should be a whole number of at least 1 and at most 6, found {decimals}",
    ):
        ImageInstructions("data", box_decimals=decimals)
