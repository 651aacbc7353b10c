"""A letter, an option, or both in any usual phrase name one option; an article is no letter."""

import random
from dataclasses import replace

import pytest

from octavius.instruction.sample import Choice, Sample
from octavius.tasks import VQA
from octavius.tasks.vqa import exact_option

TASK = VQA()
OPTIONS = ("red", "blue ball", "dark red", "green")


def sample(*options: str) -> Sample:
    return Sample("s", "vqa", "b", {}, "Which?", Choice(options or OPTIONS, 0))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(B)", 1),
        ("B", 1),
        ("b", 1),
        ("B.", 1),
        ("B)", 1),
        ("B: blue ball", 1),
        ("B, the blue ball", 1),
        ("B because it is round", 1),
        ("A", 0),
        ("A.", 0),
        ("The answer is B", 1),
        ("The answer is (B).", 1),
        ("The answer is A.", 0),
        ("The answer is B because it rolls", 1),
        ("answer: (c)", 2),
        ("Answer: D", 3),
        ("ANSWER: D", 3),
        ("Option C", 2),
        ("I would say option C is right", 2),
        ("red (A)", 0),
        ("dark red (C)", 2),
        ("it is dark red (C)", 2),
        ("green (A)", 0),  # letter and option disagree: the letter counts
        ("RED", 0),
        ("It is red.", 0),
        ("It is dark red.", 2),
        ("A dark red thing", 2),  # an article, and no `red` inside `dark red`
        ("a green one", 3),
        ("I see green", 3),
        ("(A) or (B)", None),
        ("A or B", None),
        ("A, B", None),
        ("A and B", None),
        ("A/B", None),
        ("red or green", None),
        ("red and dark red", None),
        ("A ball", None),
        ("the answer is a ball", None),
        ("I do not know", None),
        ("greenish", None),
        ("E", None),
        ("(E)", None),
        ("f(a)", None),
        ("", None),
        (" ", None),
        ("\u212a", None),  # the sign of the kelvin, whose lower case is a k
        ("\u0131", None),
    ],
)
def test_texts(text: str, found: int | None) -> None:
    assert TASK.parse(text, sample()) == found


@pytest.mark.parametrize(
    ("options", "text", "found"),
    [
        (("C major", "A minor", "D minor"), "D minor", 2),
        (("C major", "A minor", "D minor", "E minor"), "The answer is D minor.", 2),
        (("C major", "A minor", "D minor"), "C major (A)", 0),
        (("f(a)", "f(b)"), "f(b) (B)", 1),
        (("x", "x (A)"), "x (A)", 0),
        (("x", "x (A)"), "x (A) (B)", 1),
        (("B", "A"), "B (A)", 0),
        (("yes", "yes"), "yes (B)", 1),
        (("yes", "yes"), "yes", None),
        (("1", "2", "12"), "12", 2),
        (("c++", "c"), "it is c++", 0),
    ],
)
def test_options_that_look_like_letters_or_contain_each_other(
    options: tuple[str, ...], text: str, found: int | None
) -> None:
    assert TASK.parse(text, sample(*options)) == found


def test_every_option_stands_in_the_question_with_its_letter() -> None:
    asked = TASK.question(sample(), random.Random(0))
    assert asked.splitlines()[0] == "Which?"
    letters = [asked.index(f"({letter})") for letter in "ABCD"]
    assert letters == sorted(letters)
    assert all(option in asked for option in OPTIONS)
    assert "(E)" not in asked


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (("red", "dark red"), ["red", "dark red"]),
        (("yes", "yes", "no"), ["yes (A)", "yes (B)", "no"]),
        (("x (B)", "x"), ["x (B) (A)", "x"]),
        (("B", "A"), ["B", "A"]),
    ],
)
def test_an_answer_has_its_letter_where_it_needs_one(options: tuple[str, ...], answers: list[str]) -> None:
    golds = [replace(sample(*options), gold=Choice(options, index)) for index in range(len(options))]
    assert [TASK.answer(one, random.Random(0)) for one in golds] == answers
    assert [TASK.parse(answer, golds[0]) for answer in answers] == list(range(len(options)))


def test_a_reason_is_said_first_and_not_scored() -> None:
    """What a reason names, other options and letters too, is not taken for the answer."""
    reasons = ("The ball is green, not red (A).", "Answer: B", "line\nbreak\nAnswer: red", "red")
    for reason in reasons:
        for right in range(len(OPTIONS)):
            asked = replace(sample(), gold=Choice(OPTIONS, right, reason))
            said = TASK.answer(asked, random.Random(0))
            assert said.count("\n") == 1
            assert said.startswith(" ".join(reason.split()))
            assert TASK.parse(said, asked) == right
    assert TASK.answer(sample(), random.Random(0)) == "red"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("star red\nAnswer: green", 3),
        ("star red\nAnswer:green", 3),
        ("star red\nAnswer: (B)", 1),
        ("star red\nAnswer:", None),
        ("star red\nAnswer: purple", None),
        ("star red", 0),
    ],
)
def test_a_models_reason(text: str, found: int | None) -> None:
    assert TASK.parse(text, sample()) == found


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("blue", 1),
        ("B", 1),
        ("(B)", 1),
        ("blue (B)", 1),
        ("It is blue.", None),  # relaxed reading takes it
        ("Blue", None),
        ("The sky is.\nAnswer: red", 0),
        ("D", None),
        ("", None),
    ],
)
def test_exact_choice(text: str, place: int | None) -> None:
    one = Sample("s", "vqa", "b", {}, "Which?", Choice(("red", "blue", "green"), 1))
    assert exact_option(text, one) == place
