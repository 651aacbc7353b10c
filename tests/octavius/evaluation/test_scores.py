"""Right answers score 1, empty ones 0, and the table gives the chance level."""

from dataclasses import replace

import numpy as np
import pytest

from octavius.boxes import iou
from octavius.evaluation.answers import Answered
from octavius.evaluation.scores import chance, printed, score, swapped, tabulate
from octavius.instruction.sample import (
    Boxes,
    Choice,
    ClassName,
    DescribedObject,
    DescribedObjects,
    LabelledBox,
    References,
)
from octavius.tasks import TASKS
from tests.octavius.callbacks.fake_module import (
    FIRST,
    NAMES,
    OPTIONS,
    answered,
    captions,
    detections,
    in_set,
    questions,
    sample,
)


def test_true_answers_score_one() -> None:
    names = [sample(f"n{n}", "classification", ClassName(NAMES[n], NAMES)) for n in range(3)]
    items = answered(
        in_set("q", questions(6)) + in_set("d", detections(3)) + in_set("n", names) + in_set("c", captions(3))
    )
    scores = score(items)
    assert scores["q"] == scores["q/colour"] == scores["q/side"] == {"acc1": 1.0, "acc1_exact": 1.0}
    assert scores["n"] == {"acc1": 1.0}
    assert list(scores["d"].values()) == pytest.approx([1.0] * len(scores["d"]))
    assert {"recall50", "precision50", "map50", "map_coco"} <= scores["d"].keys()
    assert [scores["c"][f"bleu{n}"] for n in range(1, 5)] == pytest.approx([1.0] * 4)


def test_nothing_said_scores_nothing() -> None:
    items = answered(in_set("q", questions(6)) + in_set("d", detections(3)), lambda _: "")
    assert score(items)["q"] == {"acc1": 0.0}
    found = score(items)["d"]
    assert found.pop("map_coco_limit") == pytest.approx(1)  # what could have been said
    assert set(found.values()) == {0.0}


def test_chance_does_not_depend_on_the_answers() -> None:
    samples = in_set("q", questions(6)) + in_set("d", detections(4))
    assert chance(answered(samples)) == chance(answered(samples, lambda _: "?"))


def test_chance_of_a_constant_gold_is_certain() -> None:
    same = in_set("q", [sample(f"q{n}", "vqa", Choice(OPTIONS, 1)) for n in range(5)])
    boxes = in_set("d", [replace(one, gold=detections(1)[0].gold) for one in detections(4)])
    assert chance(answered(same))["q"] == {"acc1": 1.0}
    certain = list(chance(answered(boxes))["d"].values())
    assert certain == pytest.approx([1.0] * len(certain))


def test_a_set_of_one_sample_has_no_chance() -> None:
    items = answered(in_set("q", questions(1)) + in_set("d", detections(3)))
    assert list(chance(items)) == ["d"]
    assert tabulate(items, score(items), chance(items))["acc1"]["q"] == "1.000 (-)"


def test_chance_of_two_golds_is_how_often_neighbours_agree() -> None:
    """With every gold another, nothing agrees; with two even halves, about half does; so for captions."""
    many = [sample(f"d{n}", "detection", Boxes((LabelledBox(f"kind {n}", (0, 0, 1, 1)),))) for n in range(5)]
    assert set(chance(answered(in_set("d", many)))["d"].values()) == {0.0}
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
    table = tabulate(items, scores, chance(items))
    assert table["samples"].to_dict() == {
        "lamm/conversation": 2,
        "lamm/conversation/normal": 2,
        "lamm/detection": 3,
    }


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
    table = tabulate(answers, scores, chance(answers))
    assert (table["recall50"]["rooms"], table["em1"]["answers"]) == ("1.000 (0.00)", "1.000 (0.00)")


def test_the_printed_table_is_in_parts_of_equal_metrics() -> None:
    items = answered(in_set("q", questions(6)) + in_set("d", detections(3)) + in_set("z", questions(2)))
    parts = printed(tabulate(items, score(items), chance(items))).split("\n\n")
    heads = [part.splitlines()[0].split() for part in parts]
    boxes = ["recall50", "precision50", "map50", "map_coco", "map_coco_limit"]
    assert heads[:2] == [["samples", "protocol", *boxes], ["samples", "protocol", "acc1"]]
    assert [head[0] for head in heads[2:]] == ["map50", "map_coco_limit"], (
        "what is to be known of these columns"
    )
    assert [line.split()[0] for line in parts[1].splitlines()[1:]] == [
        *("q", "q/colour", "q/side", "z", "z/colour", "z/side"),
    ]


def test_published_scores_hang_on_the_last_answer_of_a_scene_and_standard_ones_do_not() -> None:
    """Two answers a scene: the first ones are right, the last ones are not."""
    texts = (
        "a red chair at the wall",
        "a blue bed in the corner",
        "two lamps on a desk",
        "a plant by the door",
    )
    asked = [
        sample(f"a{n}", "captioning3d", References((text,), f"scene{n // 2}")) for n, text in enumerate(texts)
    ]
    by = {
        name: answered(
            [replace(one, protocol=name) for one in asked], lambda one: texts[0 if one.id == "a0" else 2]
        )
        for name in ("standard", "published")
    }
    assert score(by["standard"])["reader"]["rouge_l"] == pytest.approx(0.5, abs=0.1)
    assert score(by["published"])["reader"]["rouge_l"] < 0.2
    assert score(by["published"][::-1])["reader"]["rouge_l"] == pytest.approx(1)


def test_chance_keeps_the_order_of_samples_and_does_not_hang_on_it() -> None:
    items = answered(in_set("q", questions(7)))
    found = swapped(items)
    assert [item.sample.id for item in found] == [item.sample.id for item in items]
    turned = swapped(items[::-1])
    assert {item.sample.id: item.value for item in found} == {item.sample.id: item.value for item in turned}
    assert swapped(items[:1]) == []


def test_a_task_of_one_sample_in_a_set_of_several_leaves_the_names_of_the_others() -> None:
    turns = [sample("t", "conversation", References(("yes it is so",)))]
    items = answered(in_set("lamm", turns + detections(3)))
    assert list(chance(items)) == ["lamm/detection"]


@pytest.mark.parametrize("decimals", [1, 2, 3, 4])
def test_the_limit_is_what_right_answers_reach_with_their_decimals(decimals: int) -> None:
    """One class and one box, so that the AP is the share of COCO's ten thresholds that its IoU reaches."""
    box = (0.0126, 0.0126, 0.0452, 0.0452)
    said = {
        1: (0.0, 0.0, 0.1, 0.1),
        2: (0.01, 0.01, 0.05, 0.05),
        3: (0.013, 0.013, 0.045, 0.045),
        4: box,
    }[decimals]
    one = sample("d", "detection", Boxes((LabelledBox("dog", box),)), benchmark="d")
    items = answered([replace(one, id=f"d{n}", decimals=decimals) for n in range(2)])
    assert [thing.box for thing in items[0].value] == [said]
    reached = sum(iou(said, box) >= level for level in np.linspace(0.5, 0.95, 10)) / 10
    assert score(items)["d"]["map_coco_limit"] == pytest.approx(reached)
    assert (reached < 1) == (decimals < 3)
