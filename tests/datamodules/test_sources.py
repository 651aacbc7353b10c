"""The number of decimals in box answers is a setting of the data, the same for training and evaluation."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from datamodules.images import ImageInstructions
from datamodules.source_instructions import check_folders
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


def section(root: Path, **sources: str) -> dict[str, Any]:
    """A data section with one source for each stage, in the given folders."""
    found = {
        stage: [{"benchmark": "coco_detection", "split": "train2017", "folder": folder}]
        for stage, folder in sources.items()
    }
    return {"class_path": "datamodules.images.ImageInstructions", "init_args": {"root": str(root), **found}}


def test_missing_folders_are_named_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    check_folders(section(tmp_path, train="here", test="gone"), ["train", "validate"])
    with pytest.raises(ValueError, match=rf"{tmp_path}/gone does not exist: coco_detection .*check-data"):
        check_folders(section(tmp_path, train="here", validate="gone"), ["train", "validate"])
    with pytest.raises(
        ValueError, match=r"the data folder nowhere does not exist.* nowhere/here.*--data.init_args.root"
    ):
        check_folders(section(Path("nowhere"), train="here"), ["train"])
    mixture = {"images": section(tmp_path, train="gone"), "clouds": None}
    with pytest.raises(ValueError, match="gone does not exist"):
        check_folders({"class_path": "datamodules.mixed.MixedInstructions", "init_args": mixture}, ["train"])


def test_data_that_will_be_written_need_not_exist(tmp_path: Path) -> None:
    data = section(tmp_path / "later", train="seen/coco")
    check_folders({**data, "class_path": "datamodules.miniature.data.MiniatureImages"}, ["train"])
