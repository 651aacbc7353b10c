"""Evaluation answers, scores and records every sample once, in files and a table."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from datamodules.examples import EvalSet, TrainSet
from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.left_out import LeftOutSamples
from octavius.evaluation.answers import Answered
from octavius.evaluation.prediction_files import PARTS
from octavius.evaluation.predictions import read_predictions
from octavius.evaluation.scores import printed
from octavius.instruction.batch import Processor
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.sample import Media, Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.media.images import ArrayLoader
from octavius.report.score import scores_of
from octavius.runs.history import read as read_history
from octavius.tasks import TASKS
from tests.octavius.callbacks.fake_module import (
    FIRST,
    FakeModule,
    Looker,
    RoisOfArrays,
    Sets,
    captions,
    detections,
    make_trainer,
    objects,
    questions,
)


class Listener(L.Callback):
    """Keeps what the evaluation hands to others."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, list[str]]] = []

    def on_answers(self, trainer: Any, module: Any, stage: str, answers: Sequence[Answered]) -> None:  # noqa: ARG002
        self.heard.append((stage, [item.sample.id for item in answers]))


class Break(L.Callback):
    """Ends an evaluation after its first batch, as a key of the keyboard would."""

    def on_validation_batch_end(self, *_: Any) -> None:
        raise KeyError("cut off")


@pytest.fixture
def processor(tokenizer: Tokenizer) -> Processor:
    loaders = {"image": ArrayLoader((2, 2)), "cloud": RoisOfArrays()}
    return Processor(PromptBuilder(tokenizer, {"image": 2, "cloud": 2}), loaders)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def unread(count: int, *bad: int) -> list[Sample]:
    """Questions of which some bring an array that is no picture."""
    sizes = {number: (3, 3) if number in bad else (2, 2) for number in range(count)}
    media = [{"image": Media(array=np.zeros(size, np.float32))} for size in sizes.values()]
    return [replace(one, media=item) for one, item in zip(questions(count), media, strict=True)]


def test_samples_that_cannot_be_read_are_in_no_score_and_told_beside_it(
    processor: Processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [EvalSet("vqa", unread(6, 1, 4), bad="skip"), EvalSet("captions", captions(3))]
    logger, listener, callback = CSVLogger(tmp_path, version="log"), Listener(), Evaluation()
    trainer = make_trainer(callback, listener, logger=logger)
    trainer.test(FakeModule(processor, q0="no idea"), Sets(processor, test=asked))
    assert listener.heard == [("test", ["q0", "q2", "q3", "q5", "c0", "c1", "c2"])]
    assert float(trainer.callback_metrics["test/vqa/acc1"]) == pytest.approx(3 / 4)
    assert callback.table is not None
    assert callback.table["samples"].to_dict() == {"captions": 3, "vqa": 4, "vqa/colour": 2, "vqa/side": 2}
    said = capsys.readouterr().out
    assert (
        "vqa: 2 of 6 samples could not be read and are not in its scores\n    sample q1 of reader: expected"
        in said
    )
    exact = json.loads((Path(logger.log_dir) / "metrics_test.json").read_text())
    assert (exact["vqa"]["left_out"], "left_out" in exact["captions"]) == (2, False)
    file = Path(logger.log_dir) / "predictions_test.jsonl"
    assert [line["id"] for line in lines(file) if "left_out" in line] == ["q1", "q4"]
    assert next((one.name, one.samples) for one in scores_of([file])) == ("vqa", 4)
    assert "2 of 6 samples could not be read" in capsys.readouterr().err


def test_an_evaluation_of_which_nothing_can_be_read_ends_with_a_message(processor: Processor) -> None:
    asked = [EvalSet("vqa", unread(3, 0, 1, 2), bad="skip")]
    with pytest.raises(ValueError, match="none of 3 samples that were tried"):
        make_trainer(Evaluation()).test(FakeModule(processor), Sets(processor, test=asked))


def test_draws_that_could_not_be_read_are_counted_and_named(
    processor: Processor, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Sets(processor, validate=[])
    data.train_sets = lambda: [TrainSet(unread(6, 1, 4), bad="skip")]  # type: ignore[method-assign]
    trainer = make_trainer(LeftOutSamples(), max_epochs=2)
    trainer.fit(FakeModule(processor), train_dataloaders=data.train_dataloader())
    said = capsys.readouterr()
    assert said.err.count("left out, another stands in: sample q") == 2
    assert "epoch 1: 2 draws of samples that cannot be read" in said.out
    assert "epoch 2: 2 draws of samples that cannot be read" in said.out


def test_an_evaluation_from_prompts_to_files(
    processor: Processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [EvalSet("seen/vqa", questions(5)), EvalSet("captions", captions(3), unseen_wording=True)]
    module = FakeModule(processor, q1="(C)", q4="no idea", c0="ein schöner Ring")
    logger, listener, callback = CSVLogger(tmp_path, version="log"), Listener(), Evaluation()
    trainer = make_trainer(callback, listener, logger=logger)
    trainer.test(module, Sets(processor, test=asked))
    ids = [f"q{n}" for n in range(5)] + [f"c{n}" for n in range(3)]
    assert module.asked == ids
    assert module.limits == [TASKS["vqa"].max_answer_tokens] * 5 + [TASKS["captioning"].max_answer_tokens] * 3
    assert module.options == [{}] * 4
    assert listener.heard == [("test", ids)]

    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    assert logged["test/seen/vqa/acc1"] == pytest.approx(3 / 5)
    assert logged["test/seen/vqa/colour/acc1"] == pytest.approx(2 / 3)
    assert logged["test/seen/vqa/side/acc1"] == pytest.approx(1 / 2)
    assert {key.removeprefix("test/captions/") for key in logged if "captions" in key} == {
        "cider",
        *(f"bleu{n}" for n in range(1, 5)),
    }
    written = lines(Path(logger.log_dir) / "predictions_test.jsonl")
    assert [(line["set"], line["id"]) for line in written] == [
        *(("seen/vqa", name) for name in ids[:5]),
        *(("captions", name) for name in ids[5:]),
    ]
    assert written[1] == {
        "set": "seen/vqa",
        "benchmark": "reader",
        "id": "q1",
        "task": "vqa",
        "group": "side",
        "protocol": "standard",
        "media": {},
        "question": TASKS["vqa"].question(asked[0].samples[1], FIRST),
        "prediction": "(C)",
        "parsed": 2,
        "gold": {"options": ["red", "blue", "green"], "answer": 1},
        "gate": [0.25, 0.75],
    }
    assert (written[4]["prediction"], written[4]["parsed"]) == ("no idea", None)
    assert written[5]["prediction"] == "ein schöner Ring"
    assert written[5]["question"] in TASKS["captioning"].unseen_questions
    assert written[5]["gold"] == {"texts": ["a red ring on a mat", "a picture of it"], "scene": ""}

    assert callback.table is not None
    table = callback.table
    assert table.index.tolist() == ["captions", "seen/vqa", "seen/vqa/colour", "seen/vqa/side"]
    assert table["samples"].tolist() == [3, 5, 3, 2]
    assert table.columns.tolist() == ["samples", "protocol", "cider", "bleu1", "bleu4", "acc1"]
    assert table["acc1"]["seen/vqa"].startswith("0.600 [0.20, 1.00] (")
    assert table["acc1"]["captions"] == ""
    numbers = pd.read_csv(Path(logger.log_dir) / "metrics_test.csv").set_index(["set", "metric"])
    assert numbers.columns.tolist() == ["task", "protocol", "samples", "value", "chance", "low", "high"]
    seen = numbers.loc[("seen/vqa", "acc1")]
    assert (seen["value"], seen["low"], seen["high"], seen["samples"]) == (pytest.approx(0.6), 0.2, 1.0, 5)
    assert f"({seen['chance']:.2f})" in table["acc1"]["seen/vqa"]
    history = read_history(Path(logger.log_dir))
    assert [(item.set, item.metric, item.value) for item in history] == [
        (*index, value) for index, value in numbers["value"].items()
    ]
    assert {(item.stage, item.epoch, item.step) for item in history} == {("test", 1, 0)}
    headlines = {"captions": "cider"} | dict.fromkeys(
        ("seen/vqa", "seen/vqa/colour", "seen/vqa/side"), "acc1"
    )
    assert {item.set: item.metric for item in history if item.headline} == headlines
    exact = json.loads((Path(logger.log_dir) / "metrics_test.json").read_text())
    between = exact["seen/vqa"].pop("intervals")
    assert between.keys() == {"acc1", "acc1_exact"}
    assert between["acc1"] == pytest.approx([0.2, 1.0])
    assert exact["seen/vqa"] == {
        "protocol": "standard",
        **dict.fromkeys(["acc1", "acc1_exact"], pytest.approx(0.6)),
    }
    assert exact.keys() == set(table.index)
    said = capsys.readouterr().out
    assert "\ntest: score [95 % interval] (chance:" in said
    assert "blind" not in said
    assert not list(Path(logger.log_dir).glob("controls*")), "no sample brings a cloud"
    assert printed(table) in said


def test_the_longest_answer_and_beams_can_be_set(processor: Processor) -> None:
    module = FakeModule(processor)
    make_trainer(Evaluation(7, 3)).validate(module, Sets(processor, validate=[EvalSet("q", questions(3))]))
    assert module.limits == [7] * 3
    assert module.options == [{"num_beams": 3}] * 2


class Snapshot(L.Callback):
    """Keeps the content of the part files after each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[list[str]] = []

    def on_test_batch_end(self, *_: Any) -> None:
        (part,) = (self.folder / PARTS).iterdir()
        self.lines.append([item.sample.id for item in read_predictions(part)])
        if len(self.lines) == 3:
            raise KeyError("cut off")


def test_answers_are_on_disk_as_they_come_and_an_interrupted_evaluation_leaves_them(
    processor: Processor, tmp_path: Path
) -> None:
    data = Sets(processor, test=[EvalSet("q", questions(5))])
    logger, callback = CSVLogger(tmp_path, version="log"), Evaluation()
    folder = Path(logger.log_dir)
    snapshot = Snapshot(folder)
    with pytest.raises(KeyError, match="cut off"):
        make_trainer(callback, snapshot, logger=logger).test(FakeModule(processor), data)
    ids = [f"q{n}" for n in range(5)]
    assert snapshot.lines == [ids[:2], ids[:4], ids]
    assert not (folder / "predictions_test.jsonl").exists()
    make_trainer(callback, logger=CSVLogger(tmp_path, version="log")).test(FakeModule(processor), data)
    assert [line["id"] for line in lines(folder / "predictions_test.jsonl")] == ids
    assert not (folder / PARTS).exists()


def test_a_module_whose_steps_return_no_answers_is_refused(processor: Processor) -> None:
    class Silent(FakeModule):
        def test_step(self, batch: Any, batch_idx: int) -> Any:
            pass

    with pytest.raises(ValueError, match="those of Silent returned NoneType"):
        make_trainer(Evaluation()).test(Silent(processor), Sets(processor, test=[EvalSet("q", questions(2))]))


def test_the_table_is_that_of_its_predictions(processor: Processor, tmp_path: Path) -> None:
    asked = [EvalSet("vqa", questions(7)), EvalSet("captions", captions(4)), EvalSet("boxes", detections(4))]
    module = FakeModule(processor, q1="(C)", c0="a ring", d1="dog [0.4, 0.5, 1, 1]", d2="cow [0, 0, 1, 1]")
    logger = CSVLogger(tmp_path, version="log")
    make_trainer(Evaluation(), logger=logger).test(module, Sets(processor, test=asked))
    exact = json.loads((Path(logger.log_dir) / "metrics_test.json").read_text())
    again = scores_of([Path(logger.log_dir) / "predictions_test.jsonl"], "standard")
    assert {one.name for one in again} == {"vqa", "captions", "boxes"}
    for one in again:
        assert {key: exact[one.name][key] for key in one.values} == one.values
        assert {key: tuple(pair) for key, pair in exact[one.name]["intervals"].items()} == one.intervals


def test_evaluations_do_not_mix(processor: Processor) -> None:
    """Every epoch, after a sanity check, after one that broke off, and of another stage."""
    data = Sets(processor, validate=[EvalSet("q", questions(4))], test=[EvalSet("c", captions(3))])
    listener, callback = Listener(), Evaluation()
    trainer = make_trainer(callback, listener, max_epochs=2, num_sanity_val_steps=2)
    trainer.fit(FakeModule(processor), data)
    assert listener.heard == [("val", ["q0", "q1", "q2", "q3"])] * 2
    broken = FakeModule(processor)
    trainer = make_trainer(callback, listener, Break())
    with pytest.raises(KeyError, match="cut off"):
        trainer.validate(broken, data)
    assert broken.asked == ["q0", "q1"]
    make_trainer(callback, listener).test(FakeModule(processor), data)
    assert listener.heard[2:] == [("test", ["c0", "c1", "c2"])]
    assert callback.table is not None
    assert callback.table.index.tolist() == ["c"]


def test_it_works_without_a_logger(
    processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = Sets(processor, validate=[EvalSet("q", questions(2))])
    trainer = make_trainer(Evaluation())
    trainer.validate(FakeModule(processor), data)
    assert float(trainer.callback_metrics["val/q/acc1"]) == 1
    assert "1.000" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_controls_stand_beside_the_scores_of_clouds_at_tests(
    processor: Processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [EvalSet("things", objects(9)), EvalSet("q", questions(3))]
    data = Sets(processor, test=asked, validate=asked[:1])
    data.training = objects(2) + objects(2)
    logger, callback = CSVLogger(tmp_path, version="log"), Evaluation(controls_limit=9)
    trainer = make_trainer(callback, logger=logger)
    trainer.test(Looker(processor), data)
    table = callback.controls_table
    assert table is not None
    assert table.index.tolist() == ["things"]
    expected = {"samples": 9, "protocol": "standard", "metric": "acc1", "model": "1.000"}
    assert {key: table[key]["things"] for key in expected} == expected
    assert table.columns.tolist()[4:] == ["majority", "text", "box", "shuffled", "chance"]
    # Three of each class: who sees nothing says a cat, boxes tell a cat alone, and cats come first in training.
    assert [table[key]["things"] for key in ("majority", "text", "box")] == ["0.333", "0.333", "0.667"]
    assert float(table["shuffled"]["things"]) < 1
    logged = {key: float(value) for key, value in trainer.callback_metrics.items() if "blind" in key}
    assert logged["blind/test/things/acc1/box"] == pytest.approx(2 / 3)
    assert len(logged) == 6
    folder = Path(logger.log_dir)
    kept = pd.read_csv(folder / "controls_test.csv", index_col=0, dtype=str)
    assert kept.equals(table.astype(str))
    exact = json.loads((folder / "controls_test.json").read_text())
    assert (exact["things"]["samples"], exact["things"]["protocol"]) == (9, "standard")
    assert exact["things"]["text"] == {"acc1": pytest.approx(1 / 3)}
    assert table.to_string() in capsys.readouterr().out
    assert [line["prediction"] for line in lines(folder / "predictions_test.jsonl")][:3] == [
        "cat",
        "dog",
        "cow",
    ]


@pytest.mark.parametrize(("controls", "expected"), [(None, None), ([], None), (["text"], ["text"])])
def test_which_controls_there_are_at_a_validation(
    processor: Processor, controls: Any, expected: list[str] | None
) -> None:
    callback = Evaluation(controls=controls, controls_limit=None)
    data = Sets(processor, validate=[EvalSet("things", objects(3))])
    make_trainer(callback).validate(Looker(processor), data)
    table = callback.controls_table
    known = ("majority", "text", "box", "shuffled")
    assert (None if table is None else [key for key in table.columns if key in known]) == expected


def test_without_training_data_the_majority_is_left_out(
    processor: Processor, capsys: pytest.CaptureFixture[str]
) -> None:
    class Alone(Sets):
        def train_sets(self) -> Any:
            raise ValueError("there is nothing to train on")

    callback = Evaluation()
    make_trainer(callback).test(Looker(processor), Alone(processor, test=[EvalSet("things", objects(3))]))
    assert callback.controls_table is not None
    assert callback.controls_table.columns.tolist()[3:] == ["model", "text", "box", "shuffled", "chance"]
    assert (
        "no majority answers, as the training data cannot be read: there is nothing"
        in capsys.readouterr().out
    )


def test_two_protocols_of_one_data_set(processor: Processor, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sets of the same samples: a list of all classes names none, but holds the right one."""
    callback = Evaluation(controls=[])
    data = Sets(
        processor,
        test=[
            EvalSet("things", objects(4)),
            EvalSet("as_published", objects(4), protocol="published"),
        ],
    )
    module = FakeModule(processor, o1="a dog, or a cat, or a cow", o3="A dog")
    make_trainer(callback).test(module, data)
    table = callback.table
    assert table is not None
    assert table["protocol"].to_dict() == {"things": "standard", "as_published": "published"}
    assert table["acc1"]["things"].startswith("0.500")
    assert table["acc1_name_in_text"]["as_published"].startswith("0.750")
    assert "\nprotocol published: the last answer of each scene" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"controls": ["blur"]}, "no control 'blur'; known ones are majority, text"),
        ({"controls_limit": 0}, "at least 1 or null, found 0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**options)


def test_several_loaders_are_refused(processor: Processor) -> None:
    with pytest.raises(ValueError, match="one DataLoader over all its sets, found list"):
        make_trainer(Evaluation()).validate(FakeModule(processor), [DataLoader([1])])
