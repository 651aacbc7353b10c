"""What all tasks share: names in texts, checked golds, and protocols."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import Boxes, ClassName, References, Sample
from octavius.tasks import Captioning, Captioning3D
from octavius.tasks.base import gold_of, named

SAMPLE = Sample("s7", "captioning", "zoo", {}, "", References(("a cat",)))


@given(st.lists(st.sampled_from(["red", "dark red", "Red", "sofa", "so"]), max_size=5))
def test_names_are_whole_words_and_the_longest_counts(words: list[str]) -> None:
    names = ["red", "dark red", "sofa"]
    text = ", ".join(words)
    expected = {names.index(word.lower()) for word in words if word != "so"}
    assert named(text, names) == sorted(expected)
    assert named(text.replace("so", "xso"), ["so"]) == []


def test_a_gold_is_checked_for_its_type() -> None:
    assert gold_of(SAMPLE, References).texts == ("a cat",)
    with pytest.raises(
        ValueError, match=r"sample s7 of zoo: .* takes a gold of type Boxes, found a References"
    ):
        gold_of(SAMPLE, Boxes)


def test_a_question_is_the_samples_own_or_one_of_the_forms() -> None:
    task, rng = Captioning(), random.Random(0)
    assert task.question(replace(SAMPLE, question="Well?"), rng) == "Well?"
    drawn = {task.question(SAMPLE, rng) for _ in range(200)}
    assert drawn == set(task.questions)
    assert {task.question(SAMPLE, rng, unseen=True) for _ in range(50)} == set(task.unseen_questions)


def test_a_gold_that_the_protocol_cannot_score_is_refused_with_the_question() -> None:
    rng = random.Random(0)
    with pytest.raises(ValueError, match="scores one answer a scene, but the gold names no scene"):
        Captioning3D().question(replace(SAMPLE, protocol="published"), rng)
    with pytest.raises(ValueError, match=r"is scored by the protocol .*, found 'official'"):
        Captioning().metrics("official")
    with pytest.raises(ValueError, match="takes a gold of type References"):
        Captioning().question(replace(SAMPLE, gold=ClassName("a", ("a",))), rng)
