"""Nothing of a zero-shot set occurs in training, of the model or of the encoders and language model below it."""

import random
import re
from collections.abc import Iterator

import pytest

from datamodules.miniature.files import WORLDS, make_item
from datamodules.miniature.pretraining.alignment import Pictures
from datamodules.miniature.pretraining.language import KINDS, Form, WorldQuestions
from datamodules.miniature.text import WORDINGS
from datamodules.miniature.vocabulary import world_lines
from datamodules.miniature.world import (
    HELD_OUT_FACES,
    HELD_OUT_PAIRS,
    UNSEEN_BACKGROUND,
    UNSEEN_STYLE,
    Face,
    Scene,
)
from octavius.tasks import TASKS

FORMS: tuple[Form, ...] = ("symbolic", "written")
LAYOUTS = ("coco", "voc", "scienceqa", "classes", "celeba")
STAGES = [(world, split) for world in WORLDS for split in ("train", "val", "test")]
TRAINED = [(world, split) for world, split in STAGES if world == "seen"]
SHIFTED = [(world, split) for world, split in STAGES if world != "seen" and split != "train"]

HELD_OUT = re.compile("|".join(f"{colour} {shape}" for colour, shape in sorted(HELD_OUT_PAIRS)))
UNSEEN_WORDS = [
    re.compile(re.sub(r"\\{\w+\\}", "[a-z]+( [a-z]+)?", re.escape(forms[-1]))) for forms in WORDINGS.values()
] + [re.compile(re.escape(form)) for task in TASKS.values() for form in task.unseen_questions]


def shift_of(facts: Scene | Face) -> str:
    """The one zero-shot shift that a picture shows; `none` for one that training may show."""
    look = (facts.style == UNSEEN_STYLE, facts.background == UNSEEN_BACKGROUND)
    if isinstance(facts, Face):
        held = [(facts.hair, facts.skin) in HELD_OUT_FACES]
    else:
        held = [(thing.colour, thing.shape) in HELD_OUT_PAIRS for thing in facts.things]
    found = {(False, False): "none", (True, False): "pairs", (False, True): "style"}
    assert all(held) == any(held)
    assert all(look) == any(look)
    return found[any(held), any(look)]


@pytest.mark.parametrize(("world", "split"), TRAINED + SHIFTED)
def test_each_world_shows_its_own_shift_and_no_other(world: str, split: str) -> None:
    for layout in LAYOUTS:
        for index in range(40):
            item = make_item(0, world, layout, split, index)
            assert shift_of(item.facts) == WORLDS[world]
            if item.question is not None:
                unseen = any(form.fullmatch(item.question.text) for form in UNSEEN_WORDS)
                assert unseen == (world != "seen"), item.question.text


@pytest.mark.parametrize("place", ["clip/train", "clip/probe", "clip/val", "clip/retrieval"])
def test_the_image_tower_sees_no_shift(place: str) -> None:
    pictures = Pictures(place, 300, 0)
    assert {shift_of(pictures.facts(index)) for index in range(300)} == {"none"}


def told_in_pretraining() -> Iterator[str]:
    """What the language model reads and answers, and what its tokenizer is made from."""
    yield from world_lines(0, 60)
    for kind in KINDS:
        for form in FORMS:
            for index, sample in enumerate(WorldQuestions(0, "language-train", kind, form, 40)[:]):
                task, rng = TASKS[sample.task], random.Random(index)
                yield task.question(sample, rng)
                yield task.answer(sample, rng)


def test_no_unseen_pair_or_wording_is_told_before_tuning() -> None:
    lines = list(told_in_pretraining())
    assert len(lines) > 1500
    for line in lines:
        assert not HELD_OUT.search(line), line
        assert not any(form.search(line) for form in UNSEEN_WORDS), line


def test_unseen_wordings_are_not_among_the_seen_ones() -> None:
    for task in TASKS.values():
        assert not set(task.questions) & set(task.unseen_questions)
    for forms in WORDINGS.values():
        assert len(set(forms)) == len(forms)


def test_no_scene_is_in_two_sets() -> None:
    """Scenes with their places and looks: training of the image tower and of the model, every evaluation."""
    seen: dict[Scene | Face, str] = {}
    for world, split in TRAINED + SHIFTED:
        for layout in LAYOUTS:
            for index in range(30):
                facts = make_item(0, world, layout, split, index).facts
                assert facts not in seen, f"{world}/{split}/{layout} {index} is also in {seen[facts]}"
                seen[facts] = f"{world}/{split}/{layout}"
    pictures = Pictures("clip/train", 200, 0)
    assert not any(pictures.facts(index) in seen for index in range(200))
