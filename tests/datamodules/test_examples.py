"""Examples depend on (seed, epoch, sample) alone, and evaluation asks the same question in every epoch."""

from pathlib import Path

import numpy as np
import pytest
from torch import equal

from datamodules.examples import EvalSet, EvaluationExamples, TrainingExamples, TrainSet, find_task
from datamodules.mixture import Draw
from octavius.instruction.batch import Example, Processor
from octavius.instruction.sample import Choice, ClassName, Media, References, Sample
from octavius.tasks import TASKS

CAPTIONS = tuple(f"A picture of {number} things." for number in range(8))


def picture(shade: int) -> dict[str, Media]:
    return {"image": Media(array=np.full((4, 4, 3), shade, np.uint8))}


def captioning(count: int, benchmark: str = "coco_captioning") -> list[Sample]:
    return [
        Sample(str(number), "captioning", benchmark, picture(number), "", References(CAPTIONS))
        for number in range(count)
    ]


def words(example: Example, processor: Processor) -> tuple[str, str]:
    """The question and the answer of an example."""
    decode = processor.prompts.tokenizer.decode
    prompt = example.prompt
    return decode(prompt.gate_ids), decode(prompt.ids[prompt.answer_start :])


def test_an_instance_is_the_same_wherever_it_is_planned(processor: Processor) -> None:
    few, many = captioning(5), captioning(9)
    first = TrainingExamples([TrainSet(few)], processor, 7)
    second = TrainingExamples([TrainSet(many, 2.0), TrainSet(few[::-1])], processor, 7)
    for index in range(5):
        one, two = first[Draw(0, index, 3)], second[Draw(1, 4 - index, 3)]
        assert one.prompt == two.prompt
        assert one.sample == two.sample
        assert equal(one.media["image"][0], two.media["image"][0])


def test_seed_epoch_and_sample_change_the_choices(processor: Processor) -> None:
    sets = [TrainSet(captioning(6)), TrainSet(captioning(6, "other"))]
    base = TrainingExamples(sets, processor, 0)

    def told(examples: TrainingExamples, source: int, epoch: int) -> list[tuple[str, str]]:
        return [words(examples[Draw(source, index, epoch)], processor) for index in range(6)]

    one = told(base, 0, 0)
    assert one == told(base, 0, 0)
    assert one != told(base, 0, 1)
    assert one != told(base, 1, 0), "the benchmark is part of the key"
    assert one != told(TrainingExamples(sets, processor, 1), 0, 0)
    assert len(set(one)) > 1, "each sample draws for itself"
    task = TASKS["captioning"]
    assert {question for question, _ in one} <= set(task.questions)
    assert {answer for _, answer in one} <= set(CAPTIONS)


def test_all_wordings_and_references_are_drawn(processor: Processor) -> None:
    examples = TrainingExamples([TrainSet(captioning(1))], processor, 0)
    told = [words(examples[Draw(0, 0, epoch)], processor) for epoch in range(120)]
    assert {question for question, _ in told} == set(TASKS["captioning"].questions)
    assert {answer for _, answer in told} == set(CAPTIONS)


def test_evaluation_asks_the_same_always(processor: Processor) -> None:
    sets = [EvalSet("near", captioning(4)), EvalSet("far", captioning(3), unseen_wording=True)]
    examples = EvaluationExamples(sets, processor)
    assert len(examples) == 7
    again = EvaluationExamples(sets[::-1], processor)
    order = [(again[index].set_name, again[index].sample) for index in range(7)]
    for place in range(7):
        example = examples[place]
        name, number = ("near", place) if place < 4 else ("far", place - 4)
        assert (example.set_name, example.index, example.sample.id) == (name, place, str(number))
        assert example.sample == sets[place >= 4].samples[number], "its benchmark is that of its reader"
        assert len(example.prompt.ids) == example.prompt.answer_start, "an answer would be told"
        question, _ = words(example, processor)
        task = TASKS["captioning"]
        assert question in (task.questions if place < 4 else task.unseen_questions)
        assert again[order.index((name, example.sample))].prompt == example.prompt


def test_a_question_of_the_data_is_kept(processor: Processor) -> None:
    options = Choice(("red", "blue"), 1)
    own = [
        Sample("1", "vqa", "scienceqa", picture(1), "What colour is the ball?", options),
        Sample(
            "2",
            "facial_attributes",
            "celeba_smile",
            picture(2),
            "Is this person smiling?",
            ClassName("no", ("yes", "no")),
        ),
    ]
    for unseen in (False, True):
        examples = EvaluationExamples([EvalSet("own", own, unseen)], processor)
        assert words(examples[0], processor)[0] == "What colour is the ball?\nOptions: red (A), blue (B)"
        assert words(examples[1], processor)[0] == "Is this person smiling?"


def test_batches_train_or_generate(processor: Processor) -> None:
    samples = captioning(3)
    training = TrainingExamples([TrainSet(samples)], processor, 0)
    batch = processor.collate([training[Draw(0, index, 0)] for index in range(3)])
    assert (batch.labels >= 0).any(1).all()
    evaluation = EvaluationExamples([EvalSet("set", samples)], processor)
    batch = processor.collate([evaluation[index] for index in range(3)])
    assert not (batch.labels >= 0).any()
    assert batch.attention_mask[:, -1].all(), "padded on the left"


def test_unknown_tasks_are_named(processor: Processor) -> None:
    with pytest.raises(ValueError, match="unknown task 'segmentation'; known: detection, captioning"):
        find_task("segmentation")
    wrong = [Sample("1", "segmentation", "coco", {}, "", References(("a",)))]
    with pytest.raises(ValueError, match="unknown task 'segmentation'"):
        TrainingExamples([TrainSet(wrong)], processor, 0)[Draw(0, 0, 0)]


def test_a_missing_picture_is_named_with_its_sample(processor: Processor, tmp_path: Path) -> None:
    lost = Sample(
        "9", "captioning", "coco", {"image": Media(path=tmp_path / "a.jpg")}, "", References(("a",))
    )
    with pytest.raises(ValueError, match=r"sample 9 of coco: no image file at .*a\.jpg"):
        TrainingExamples([TrainSet([lost])], processor, 0)[Draw(0, 0, 0)]


def test_samples_take_the_protocol_of_their_set(processor: Processor) -> None:
    asked = [
        Sample("0", "captioning3d", "nr3d_captioning", picture(0), "", References(CAPTIONS, "scene0000_00"))
    ]
    sets = [EvalSet("ours", asked), EvalSet("theirs", asked, protocol="published")]
    examples = EvaluationExamples(sets, processor)
    assert [examples[index].sample.protocol for index in range(2)] == ["standard", "published"]
