"""Every question about a scene that was never drawn has an answer that reads back to its gold."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from datamodules.miniature import text
from datamodules.miniature.pretraining.language import (
    KINDS,
    Form,
    WorldLanguage,
    WorldQuestions,
    make_question,
)
from datamodules.miniature.symbolic import GRID, PARTS, WIDTH, symbols
from datamodules.miniature.world import COLOURS, SHAPES, Face, Scene, Thing, generator, make_scene
from octavius.boxes import iou
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Boxes, Choice, Gold, References
from octavius.tasks import TASKS

FORMS: tuple[Form, ...] = ("symbolic", "written")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_read_back(kind: str, form: Form) -> None:
    for sample in WorldQuestions(0, "test", kind, form, 40)[:]:
        task = TASKS[sample.task]
        value, found = task.value(sample), task.parse(task.answer(sample, random.Random(sample.id)), sample)
        if sample.task == "detection":
            ordered = sorted(value, key=lambda thing: thing.box)
            assert [thing.label for thing in found] == [thing.label for thing in ordered]
            edges = [(one.box, two.box) for one, two in zip(found, ordered, strict=True)]
            assert all(one == pytest.approx(two, abs=0.0051) and iou(one, two) > 0.9 for one, two in edges)
        elif sample.task in ("captioning", "conversation"):
            assert found in value
        else:
            assert found == value


@pytest.mark.parametrize("kind", KINDS)
def test_forms_differ_in_where_the_scene_is(kind: str) -> None:
    symbolic, written = (WorldQuestions(0, "test", kind, form, 5) for form in FORMS)
    for sample in symbolic[:]:
        grid = sample.media["image"].array
        assert grid is not None
        assert grid.shape == (GRID * GRID, WIDTH)
        assert "Scene:" not in sample.question
    for sample in written[:]:
        assert not sample.media
        scene, question = sample.question.split("\n", 1)
        assert scene.startswith("Scene: ")
        assert question


@pytest.mark.parametrize("kind", ["classification", "hair", "smile"])
def test_a_symbolic_grid_holds_the_answer(kind: str) -> None:
    part = "class" if kind == "classification" else kind
    for sample in WorldQuestions(0, "test", kind, "symbolic", 20)[:]:
        grid = sample.media["image"].array
        assert grid is not None
        [name] = {int(row.argmax()) for row in grid[grid[:, 0] > 0][:, PARTS[part]]}
        names = ("no", "yes") if kind == "smile" else sample.gold.names
        assert names[name] == sample.gold.name


def told(gold: Gold) -> str:
    """All words of an answer and of what else it might have been."""
    if isinstance(gold, Boxes):
        return " ".join(thing.label for thing in gold.objects)
    if isinstance(gold, References):
        return " ".join(gold.texts)
    return " ".join(gold.options) if isinstance(gold, Choice) else gold.name


@pytest.mark.parametrize("kind", KINDS)
def test_an_omitted_attribute_is_neither_named_nor_shown(kind: str) -> None:
    """Where an attribute is omitted, all shapes or all colours are gone from words and symbols alike."""
    counts: Counter[str] = Counter()
    for index in range(150):
        rng = generator(7, "hidden", index)
        asked = make_question(kind, rng, hidden=0.6)
        facts = asked.facts
        if isinstance(facts, Face):
            continue
        gone = [part for part in ("shape", "colour") if not any(getattr(t, part) for t in facts.things)]
        counts.update(gone or ["nothing"])
        words = f"{asked.question.removeprefix('Give the box of')} {told(asked.gold)}"
        rows = symbols(facts)
        rows = rows[rows[:, 0] > 0]
        for part, place, names in (("shape", "class", (*SHAPES, "face")), ("colour", "colour", COLOURS)):
            one_hot = (np.sort(rows[:, PARTS[place]], axis=1)[:, -2:] == [0, 1]).all()
            assert one_hot == (part not in gone)
            if part in gone and asked.group != "colour":
                assert not any(re.search(rf"\b{name}\b", words) for name in names)
    assert counts["nothing"] >= 30 or kind in ("hair", "smile")
    assert (counts["colour"] >= 15) == (kind not in ("attributes", "hair", "smile"))
    assert (counts["shape"] >= 15) == (kind in ("captioning", "vqa"))


def test_looked_up_things_are_named_by_words_that_fit_no_other() -> None:
    asked = Counter()
    for index in range(200):
        scene = make_scene(generator(3, "look up", index))
        question, meant = text.look_up(scene, generator(4, "look up", index))
        asked[len(meant)] += 1
        for words, thing in meant.items():
            assert re.search(rf"\bthe {words}\b", question)
            told = {word for word in words.split() if word != "object"}
            assert [other for other in scene.things if told <= {other.shape, other.colour}] == [thing]
    assert min(asked[1], asked[2]) > 30
    twins = Scene((Thing("", "", (0, 0, 30, 30)), Thing("", "", (50, 50, 80, 80))), "flat", "plain", 0)
    with pytest.raises(ValueError, match="unambiguous name"):
        text.look_up(twins, generator(0, "look up", 0))


def test_an_item_is_the_same_whenever_it_is_asked_for() -> None:
    questions = WorldQuestions(0, "test", "vqa", "symbolic", 1_000_000)
    assert len(questions) == 1_000_000
    once, again = questions[765_432], questions[765_432]
    assert once == again
    assert np.array_equal(once.media["image"].array, again.media["image"].array)
    for other in (
        WorldQuestions(0, "other", "vqa", "symbolic", 10),
        WorldQuestions(1, "test", "vqa", "symbolic", 10),
        WorldQuestions(0, "test", "vqa", "symbolic", 20)[10:],
    ):
        pairs = zip(questions[:10], other[:10], strict=True)
        assert not any(np.array_equal(a.media["image"].array, b.media["image"].array) for a, b in pairs)


def test_the_mixture_has_the_asked_weights(symbolic_processor: Processor) -> None:
    data = WorldLanguage(
        weights={"vqa": 3.0, "hair": 1.0},
        written=0.25,
        eval_count=3,
        batch_size=16,
        samples_per_epoch=64,
        workers=0,
        processor=symbolic_processor,
    )
    groups = [sample for batch in data.train_dataloader() for sample in batch.samples]
    counts = {
        (kind, written): sum(1 for s in groups if s.benchmark == kind and (not s.media) == written)
        for kind in ("vqa", "hair")
        for written in (False, True)
    }
    assert counts == {("vqa", False): 36, ("vqa", True): 12, ("hair", False): 12, ("hair", True): 4}
    sets = {item.name: len(item.samples) for item in data.eval_sets("validate")}
    assert sets == {"symbolic_vqa": 9, "symbolic_hair": 3, "written_vqa": 9, "written_hair": 3}


def test_probes_share_nothing_with_training() -> None:
    data = WorldLanguage(weights={"vqa": 1.0}, eval_count=20)
    sets = [data.eval_sets("validate")[0], data.eval_sets("test")[0], data.train_sets()[0]]
    grids = [{sample.media["image"].array.tobytes() for sample in item.samples[:60]} for item in sets]
    assert len(grids[0] | grids[1] | grids[2]) == sum(map(len, grids)) == 180
