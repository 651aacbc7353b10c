"""Every sample is answered, scored and written down once; the table says what chance would reach."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from datamodules.base import InstructionDataModule
from datamodules.instances import EvalSet, TrainSet
from octavius.callbacks import evaluation
from octavius.callbacks.evaluation import (
    Answered,
    Evaluation,
    chance,
    gather_once,
    prediction,
    score,
    tabulate,
)
from octavius.instruction.batch import Batch, Processor
from octavius.instruction.media import ArrayLoader
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.sample import (
    Boxes,
    Choice,
    ClassName,
    DescribedObject,
    DescribedObjects,
    Gold,
    LabelledBox,
    Media,
    References,
    Sample,
)
from octavius.instruction.tokenizer import Tokenizer
from octavius.tasks import TASKS

OPTIONS, NAMES = ("red", "blue", "green"), ("cat", "dog", "cow")


def sample(name: str, task: str, gold: Gold, group: str = "", benchmark: str = "reader") -> Sample:
    return Sample(name, task, benchmark, {}, "Which colour?" if task == "vqa" else "", gold, group=group)


def questions(count: int) -> list[Sample]:
    groups = ("colour", "side")
    return [sample(f"q{n}", "vqa", Choice(OPTIONS, n % 3), groups[n % 2]) for n in range(count)]


def captions(count: int) -> list[Sample]:
    texts = ("a red ring on a mat", "two cats in the sun", "one dog and a cow")
    return [
        sample(f"c{n}", "captioning", References((texts[n % 3], "a picture of it"))) for n in range(count)
    ]


def detections(count: int) -> list[Sample]:
    boxes = [(0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 1.0, 1.0), (0.0, 0.5, 0.3, 1.0)]
    return [
        sample(f"d{n}", "detection", Boxes((LabelledBox(NAMES[n % 3], boxes[n % 3]),))) for n in range(count)
    ]


class Sets(InstructionDataModule):
    """Evaluation sets by stage."""

    def __init__(self, processor: Processor, **sets: list[EvalSet]) -> None:
        super().__init__(2, 2, workers=0, processor=processor)
        self.sets = sets

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(captions(4))]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        return self.sets[stage]


class Pupil(L.LightningModule):
    """Gives the true answer, but for samples whose answer is set; notes what it was asked."""

    def __init__(self, processor: Processor, **answers: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.processor, self.answers = processor, answers
        self.asked: list[str] = []
        self.limits: list[int] = []
        self.options: list[dict[str, Any]] = []

    def answer(self, batch: Batch, limits: Sequence[int], **options: Any) -> tuple[list[str], Tensor]:
        self.asked += [one.id for one in batch.samples]
        self.limits += limits
        self.options.append(options)
        texts = [self.answers.get(one.id, TASKS[one.task].answer(one, FIRST)) for one in batch.samples]
        return texts, torch.tensor([[0.25, 0.75]] * len(texts))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        return self.weight * len(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing: the callback asks."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing: the callback asks."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class First:
    """A generator that draws the first of everything."""

    def choice(self, items: Sequence[Any]) -> Any:
        return items[0]


FIRST: Any = First()


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
    return Processor(PromptBuilder(tokenizer, {"image": 2}), {"image": ArrayLoader((2, 2))})


def make_trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"num_sanity_val_steps": 0, "logger": False, **options},
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_an_evaluation_from_prompts_to_files(
    processor: Processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [EvalSet("seen/vqa", questions(5)), EvalSet("captions", captions(3), unseen_wording=True)]
    pupil = Pupil(processor, q1="(C)", q4="no idea", c0="ein schöner Ring")
    logger, listener, callback = CSVLogger(tmp_path, version="log"), Listener(), Evaluation()
    trainer = make_trainer(callback, listener, logger=logger)
    trainer.test(pupil, Sets(processor, test=asked))
    ids = [f"q{n}" for n in range(5)] + [f"c{n}" for n in range(3)]
    assert pupil.asked == ids
    assert pupil.limits == [TASKS["vqa"].max_answer_tokens] * 5 + [TASKS["captioning"].max_answer_tokens] * 3
    assert pupil.options == [{}] * 4
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
        "id": "q1",
        "task": "vqa",
        "group": "side",
        "media": {},
        "question": TASKS["vqa"].question(asked[0].samples[1], FIRST),
        "prediction": "(C)",
        "parsed": 2,
        "gold": 1,
        "gate": [0.25, 0.75],
    }
    assert (written[4]["prediction"], written[4]["parsed"]) == ("no idea", None)
    assert written[5]["prediction"] == "ein schöner Ring"
    assert written[5]["question"] in TASKS["captioning"].unseen_questions
    assert written[5]["gold"] == ["a red ring on a mat", "a picture of it"]

    assert callback.table is not None
    table = callback.table
    assert table.index.tolist() == ["captions", "seen/vqa", "seen/vqa/colour", "seen/vqa/side"]
    assert table["samples"].tolist() == [3, 5, 3, 2]
    assert table.columns.tolist() == ["samples", "acc1", "cider", "bleu1", "bleu4"]
    assert table["acc1"]["seen/vqa"].startswith("0.600 (")
    assert table["acc1"]["captions"] == ""
    kept = pd.read_csv(Path(logger.log_dir) / "metrics_test.csv", index_col=0, keep_default_na=False)
    assert kept.astype(str).equals(table.astype(str))
    exact = json.loads((Path(logger.log_dir) / "metrics_test.json").read_text())
    assert exact["seen/vqa"] == {"acc1": pytest.approx(0.6)}
    assert exact.keys() == set(table.index)
    printed = capsys.readouterr().out
    assert "\ntest: score (chance:" in printed
    assert all(line in printed for line in table.to_string().splitlines())


def test_the_longest_answer_and_beams_can_be_set(processor: Processor) -> None:
    pupil = Pupil(processor)
    make_trainer(Evaluation(7, 3)).validate(pupil, Sets(processor, validate=[EvalSet("q", questions(3))]))
    assert pupil.limits == [7] * 3
    assert pupil.options == [{"num_beams": 3}] * 2


def test_evaluations_do_not_mix(processor: Processor) -> None:
    """Every epoch, after a sanity check, after one that broke off, and of another stage."""
    data = Sets(processor, validate=[EvalSet("q", questions(4))], test=[EvalSet("c", captions(3))])
    listener, callback = Listener(), Evaluation()
    trainer = make_trainer(callback, listener, max_epochs=2, num_sanity_val_steps=2)
    trainer.fit(Pupil(processor), data)
    assert listener.heard == [("val", ["q0", "q1", "q2", "q3"])] * 2
    broken = Pupil(processor)
    trainer = make_trainer(callback, listener, Break())
    with pytest.raises(KeyError, match="cut off"):
        trainer.validate(broken, data)
    assert broken.asked == ["q0", "q1"]
    make_trainer(callback, listener).test(Pupil(processor), data)
    assert listener.heard[2:] == [("test", ["c0", "c1", "c2"])]
    assert callback.table is not None
    assert callback.table.index.tolist() == ["c"]


def test_it_works_without_a_logger(
    processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = Sets(processor, validate=[EvalSet("q", questions(2))])
    trainer = make_trainer(Evaluation())
    trainer.validate(Pupil(processor), data)
    assert float(trainer.callback_metrics["val/q/acc1"]) == 1
    assert "1.000" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def answered(samples: Sequence[Sample], says: Callable[[Sample], str] | None = None) -> list[Answered]:
    """What a pupil would say, by default the truth."""
    found = []
    for one in samples:
        text = TASKS[one.task].answer(one, FIRST) if says is None else says(one)
        found.append(Answered(one, "?", text, TASKS[one.task].parse(text, one), None))
    return found


def in_set(name: str, samples: Sequence[Sample]) -> list[Sample]:
    return [replace(one, benchmark=name) for one in samples]


def test_each_process_brings_a_part_and_each_sample_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with every second sample; the last of the shorter one comes twice to fill its round."""
    whole = answered(in_set("b", questions(3)) + in_set("a", captions(2)))
    parts = [whole[0::2], [*whole[1::2], whole[0]]]

    def share(everyone: list[Any], mine: list[Answered]) -> None:
        assert mine == parts[0]
        everyone[:] = parts

    monkeypatch.setattr(evaluation.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(evaluation.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(evaluation.distributed, "all_gather_object", share)
    assert gather_once(parts[0]) == whole


def test_one_id_in_two_sets_is_two_samples() -> None:
    items = answered(in_set("a", questions(2)) + in_set("b", questions(2)))
    assert gather_once([*items, *items]) == items


def test_true_answers_score_one() -> None:
    names = [sample(f"n{n}", "classification", ClassName(NAMES[n], NAMES)) for n in range(3)]
    items = answered(
        in_set("q", questions(6)) + in_set("d", detections(3)) + in_set("n", names) + in_set("c", captions(3))
    )
    scores = score(items)
    assert scores["q"] == scores["q/colour"] == scores["q/side"] == scores["n"] == {"acc1": 1.0}
    assert scores["d"] == {"recall50": 1.0, "precision50": 1.0}
    assert [scores["c"][f"bleu{n}"] for n in range(1, 5)] == pytest.approx([1.0] * 4)


def test_nothing_said_scores_nothing() -> None:
    items = answered(in_set("q", questions(6)) + in_set("d", detections(3)), lambda _: "")
    assert score(items)["q"] == {"acc1": 0.0}
    assert score(items)["d"] == {"recall50": 0.0, "precision50": 0.0}


def test_chance_does_not_depend_on_the_answers() -> None:
    samples = in_set("q", questions(6)) + in_set("d", detections(4))
    assert chance(answered(samples)) == chance(answered(samples, lambda _: "?"))


def test_chance_of_a_constant_gold_is_certain() -> None:
    same = in_set("q", [sample(f"q{n}", "vqa", Choice(OPTIONS, 1)) for n in range(5)])
    boxes = in_set("d", [replace(one, gold=detections(1)[0].gold) for one in detections(4)])
    assert chance(answered(same))["q"] == {"acc1": 1.0}
    assert chance(answered(boxes))["d"] == {"recall50": 1.0, "precision50": 1.0}


def test_a_set_of_one_sample_has_no_chance() -> None:
    items = answered(in_set("q", questions(1)) + in_set("d", detections(3)))
    assert list(chance(items)) == ["d"]
    assert tabulate(items, score(items))["acc1"]["q"] == "1.000 (-)"


def test_chance_of_two_golds_is_how_often_neighbours_agree() -> None:
    """With every gold another, nothing agrees; with two even halves, about half does; so for captions."""
    many = [sample(f"d{n}", "detection", Boxes((LabelledBox(f"kind {n}", (0, 0, 1, 1)),))) for n in range(5)]
    assert chance(answered(in_set("d", many)))["d"] == {"recall50": 0.0, "precision50": 0.0}
    halves = [sample(f"q{n}", "vqa", Choice(OPTIONS, n % 2)) for n in range(400)]
    assert chance(answered(in_set("q", halves)))["q"]["acc1"] == pytest.approx(0.5, abs=0.1)
    alike = [sample(f"c{n}", "captioning", References(("a ring on the red mat",))) for n in range(3)]
    assert chance(answered(in_set("c", alike)))["c"]["bleu4"] == pytest.approx(1)


def test_a_set_of_several_tasks_has_a_row_for_each() -> None:
    turns = [sample(f"t{n}", "conversation", References(("yes it is so",)), "normal") for n in range(2)]
    items = answered(in_set("lamm", turns + detections(3)))
    scores = score(items)
    assert set(scores) == {"lamm/conversation", "lamm/conversation/normal", "lamm/detection"}
    assert scores["lamm/detection"]["recall50"] == 1
    table = tabulate(items, scores)
    assert table["samples"].to_dict() == {
        "lamm/conversation": 2,
        "lamm/conversation/normal": 2,
        "lamm/detection": 3,
    }


def test_a_prediction_of_boxes_is_plain_json() -> None:
    one = replace(detections(1)[0], media={"image": Media(path=Path("a/b.png"))})
    item = Answered(one, "Where?", "dog [0, 0, 0.33333333, 1]", (LabelledBox("dog", (0, 0, 1 / 3, 1)),), None)
    line = json.loads(json.dumps(prediction(item)))
    assert line["parsed"] == [{"label": "dog", "box": [0, 0, 0.3333, 1]}]
    assert line["gold"] == [{"label": "cat", "box": [0, 0, 0.2, 0.2]}]
    assert line["media"] == {"image": str(Path("a/b.png"))}
    assert line["gate"] is None


def test_answers_about_clouds_are_scored_and_written_down() -> None:
    """Chance gives a scene another one's objects, each with the first of its texts."""
    boxes = ((0.0, 0.0, 0.5, 1.0, 1.0, 1.0), (4.0, 4.0, 0.5, 1.0, 1.0, 1.0))
    rooms = [
        DescribedObjects((DescribedObject(box, (f"a {name} chair at the wall", "a chair")),))
        for box, name in zip(boxes, ("red", "blue"), strict=True)
    ]
    asked = [sample(f"r{n}", "dense_captioning3d", room, benchmark="rooms") for n, room in enumerate(rooms)]
    asked += [sample(f"a{n}", "vqa3d", References((f"{n} chairs",)), benchmark="answers") for n in range(2)]
    answers = []
    for one in asked:
        text = TASKS[one.task].answer(one, FIRST)
        answers.append(Answered(one, "?", text, TASKS[one.task].parse(text, one), None))
    scores, guesses = score(answers), chance(answers)
    assert (scores["rooms"]["recall50"], guesses["rooms"]["recall50"]) == (1, 0)
    assert (scores["answers"]["em1"], guesses["answers"]["em1"]) == (1, 0)
    table = tabulate(answers, scores)
    assert (table["recall50"]["rooms"], table["em1"]["answers"]) == ("1.000 (0.00)", "1.000 (0.00)")
    line = json.loads(json.dumps(prediction(answers[1])))
    assert line["parsed"] == [{"texts": ["a blue chair at the wall"], "box": [4, 4, 0.5, 1, 1, 1]}]
    assert line["gold"] == [{"texts": ["a blue chair at the wall", "a chair"], "box": [4, 4, 0.5, 1, 1, 1]}]
