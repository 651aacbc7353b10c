"""Every question about a scene that was never drawn has an answer that reads back to its gold."""

import random

import numpy as np
import pytest

from datamodules.language import KINDS, Form, WorldLanguage, WorldQuestions
from datamodules.miniature.symbolic import GRID, PARTS, WIDTH
from octavius.boxes import iou
from octavius.instruction.batch import Processor
from octavius.tasks import TASKS

FORMS: tuple[Form, ...] = ("symbolic", "written")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_read_back(kind: str, form: Form) -> None:
    for sample in WorldQuestions(0, "test", kind, form, 40)[:]:
        task = TASKS[sample.task]
        value, found = task.value(sample), task.parse(task.answer(sample, random.Random(sample.id)), sample)
        if kind == "detection":
            assert [thing.label for thing in found] == [thing.label for thing in value]
            edges = [(one.box, two.box) for one, two in zip(found, value, strict=True)]
            assert all(one == pytest.approx(two, abs=0.0051) and iou(one, two) > 0.9 for one, two in edges)
        elif kind == "captioning":
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
