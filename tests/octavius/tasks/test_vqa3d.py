"""A reason comes before the answer, and only the answer is scored."""

import random

import pytest

from octavius.instruction.sample import References, Sample
from octavius.tasks import TASKS

TASK = TASKS["vqa3d"]


def sample(*texts: str, reason: str = "") -> Sample:
    return Sample("s1", "vqa3d", "zoo", {}, "How many?", References(texts, "scene", reason))


def test_a_reason_leads_to_the_first_answer() -> None:
    one = sample("2", "two", reason="chair,\nchair  2")
    assert {TASK.answer(one, random.Random(seed)) for seed in range(9)} == {"chair, chair 2\nAnswer: 2"}


def test_without_a_reason_every_accepted_answer_is_drawn() -> None:
    one = sample("2", "two", reason=" ")
    assert {TASK.answer(one, random.Random(seed)) for seed in range(20)} == {"2", "two"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("chair, chair 2\nAnswer: 2", "2"),
        ("a\nAnswer: 1\nAnswer:  the  red one ", "the red one"),
        ("2", "2"),
        ("chair 2\nAnswer:", None),
        ("the answer: 2", "the answer: 2"),
        ("", None),
    ],
)
def test_what_follows_the_last_answer_mark_is_read(text: str, read: str | None) -> None:
    assert TASK.parse(text, sample("2")) == read
