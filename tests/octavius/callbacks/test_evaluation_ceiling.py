"""The blind ceiling of an evaluation set is printed and written beside its scores."""

import json
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from datamodules.examples import EvalSet
from octavius.callbacks.evaluation import Evaluation
from octavius.instruction.batch import Processor
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.tokenizer import Tokenizer
from octavius.media.images import ArrayLoader
from tests.octavius.callbacks.fake_module import FakeModule, RoisOfArrays, Sets, make_trainer, objects


@pytest.fixture
def processor(tokenizer: Tokenizer) -> Processor:
    loaders = {"image": ArrayLoader((2, 2)), "cloud": RoisOfArrays()}
    return Processor(PromptBuilder(tokenizer, {"image": 2, "cloud": 2}), loaders)


def test_a_blind_ceiling_stands_beside_the_scores(
    processor: Processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [EvalSet("things", objects(4), blind_ceiling=0.25), EvalSet("others", objects(4))]
    callback, logger = Evaluation(controls=[]), CSVLogger(tmp_path, version="log")
    make_trainer(callback, logger=logger).test(FakeModule(processor), Sets(processor, test=sets))
    assert callback.table is not None
    assert callback.table["blind_ceiling"].to_dict() == {"things": "0.250", "others": ""}
    assert "highest score of a model that ignores the question" in capsys.readouterr().out
    exact = json.loads((Path(logger.log_dir) / "metrics_test.json").read_text())
    assert exact["things"]["blind_ceiling"] == 0.25
    assert "blind_ceiling" not in exact["others"]
