"""Texts about a scene are true of its facts, checked by parsing them again."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.miniature.text import (
    WORDINGS,
    ask,
    attributes,
    captions,
    compare,
    face_captions,
    positions,
    write_face,
    write_scene,
)
from datamodules.miniature.world import (
    COLOURS,
    HAIR,
    SHAPES,
    Scene,
    Shift,
    Thing,
    generator,
    make_face,
    make_scene,
)

SEEDS = st.integers(0, 2**31)
SHIFTS = st.sampled_from(["none", "pairs", "style"])
PAIR = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")


def solve(question: str, scene: Scene) -> str:
    """The one right answer to a question, from its words and the facts; fails where there are several."""
    pairs = PAIR.findall(question)
    if len(pairs) == 2:
        [landmark] = re.findall(rf"\b(?:of|from|than|below|at|to) the {PAIR.pattern}", question)
        first = next(find(scene, *pair) for pair in pairs if pair != landmark)
        second = find(scene, *landmark)
        axis = 1 if "above" in question.lower() else 0
        before, after = (("left", "right"), ("above", "below"))[axis]
        gap = sum(first.pixels[axis::2]) - sum(second.pixels[axis::2])
        assert abs(gap) > 20, "too close to tell"
        return before if gap < 0 else after
    assert pairs == []
    shapes = [shape for shape in SHAPES if re.search(rf"\b{shape}\b", question)]
    colours = [colour for colour in COLOURS if re.search(rf"\b{colour}\b", question)]
    if shapes:
        [shape] = shapes
        [thing] = [thing for thing in scene.things if thing.shape == shape]
        return thing.colour
    if colours:
        [colour] = colours
        [thing] = [thing for thing in scene.things if thing.colour == colour]
        return thing.shape
    return str(len(scene.things))


def find(scene: Scene, colour: str, shape: str) -> Thing:
    [thing] = [thing for thing in scene.things if (thing.colour, thing.shape) == (colour, shape)]
    return thing


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("kind", WORDINGS)
def test_questions_have_one_answer_and_it_is_the_given_one(kind: str, unseen: bool) -> None:
    asked, letters = 0, set()
    for index in range(150):
        rng = generator(0, "ask", index)
        scene = make_scene(rng, ("none", "pairs", "style")[index % 3])
        question = ask(scene, kind, rng, unseen)
        if question is None:
            continue
        asked += 1
        letters.add(question.answer)
        assert question.kind == kind
        assert len(set(question.options)) == len(question.options) == (2 if kind in ("side", "level") else 4)
        assert question.options[question.answer] == solve(question.text, scene)
    assert asked > 60
    assert letters == set(range(2 if kind in ("side", "level") else 4)), "a letter that is never right"


@given(SEEDS)
def test_a_question_that_cannot_be_clear_is_not_asked(seed: int) -> None:
    twins = (Thing("ball", "red", (2, 2, 40, 40)), Thing("ball", "blue", (50, 2, 90, 40)))
    scene = Scene(twins, "flat", "plain", 0)
    rng = np.random.default_rng(seed)
    assert ask(scene, "colour", rng) is None
    assert ask(scene, "level", rng) is None
    assert ask(Scene(twins[:1], "flat", "plain", 0), "side", rng) is None


def form_of(text: str, kind: str) -> int:
    """Which wording of a kind a question was written in."""
    fits = [
        place
        for place, form in enumerate(WORDINGS[kind])
        if re.fullmatch(re.sub(r"\\{\w+\\}", r"[a-z]+( [a-z]+)?", re.escape(form)), text)
    ]
    [place] = fits
    return place


@pytest.mark.parametrize("kind", WORDINGS)
def test_the_last_wording_is_kept_for_unseen_questions(kind: str) -> None:
    seen, unseen = set(), set()
    for index in range(80):
        rng = generator(1, "form", index)
        scene = make_scene(rng, count=3)
        for forms, flag in ((seen, False), (unseen, True)):
            question = ask(scene, kind, rng, flag)
            if question is not None:
                forms.add(form_of(question.text, kind))
    last = len(WORDINGS[kind]) - 1
    assert seen == set(range(last))
    assert unseen == {last}


@given(SEEDS, SHIFTS)
def test_captions_name_each_thing_once_from_left_to_right(seed: int, shift: Shift) -> None:
    scene = make_scene(generator(seed, "captions", 0), shift)
    expected = [(thing.colour, thing.shape) for thing in sorted(scene.things, key=lambda it: it.pixels[:2])]
    told = captions(scene)
    assert len(set(told)) == 5
    for caption in told:
        assert PAIR.findall(caption) == expected
        assert caption[0].isupper()
        assert caption.endswith(".")
        articles = re.findall(r"\b(an?) (\w)", caption, re.IGNORECASE)
        assert all((article.lower() == "an") == (letter in "aeiou") for article, letter in articles)


@given(SEEDS)
def test_captions_of_faces_are_true(seed: int) -> None:
    face = make_face(generator(seed, "faces", 0))
    told = [*face_captions(face), write_face(face)]
    assert len(set(told)) == 6
    for caption in told:
        words = set(re.findall(r"\w+", caption))
        assert words & set(HAIR) == {face.hair}
        assert words & {"smiling", "serious"} == {"smiling" if face.smile else "serious"}
        assert ("glasses" in words and "no glasses" not in caption) == face.glasses
        assert words & {"long", "short"} <= {"long" if face.long_hair else "short"}


@given(SEEDS)
def test_positions_are_where_the_centres_are(seed: int) -> None:
    scene = make_scene(generator(seed, "positions", 0))
    told = re.findall(r"an? (\w+) (\w+) at the (\w+) (\w+)", positions(scene))
    assert len(told) == len(scene.things)
    for colour, shape, row, column in told:
        x1, y1, x2, y2 = find(scene, colour, shape).pixels
        assert ("left", "middle", "right").index(column) == (x1 + x2) * 3 // 224
        assert ("top", "centre", "bottom").index(row) == (y1 + y2) * 3 // 224


@given(SEEDS)
def test_a_written_scene_reads_back(seed: int) -> None:
    scene = make_scene(generator(seed, "written", 0))
    rows = re.findall(r"(\w+) (\w+) \[([\d., ]+)\]", write_scene(scene))
    assert [(colour, shape) for colour, shape, _ in rows] == [(it.colour, it.shape) for it in scene.things]
    for (_, _, edges), thing in zip(rows, scene.things, strict=True):
        assert [float(edge) for edge in edges.split(", ")] == pytest.approx(thing.box, abs=0.0051)


def test_comparisons_are_true_and_whole() -> None:
    """Read back word by word: every pair that is far enough apart, and nothing that is not so."""
    rows = 0
    for index in range(150):
        scene = make_scene(generator(5, "compare", index))
        told = compare(scene, generator(6, "compare", index))
        if told is None:
            pairs = itertools.combinations(scene.things, 2)
            assert len(scene.things) > 3 or all(near(*pair) for pair in pairs)
            continue
        question, answer = told
        order = PAIR.findall(question)
        assert len(order) == min(3, len(scene.things))
        assert set(order) <= {(thing.colour, thing.shape) for thing in scene.things}
        said = {}
        for row in answer.split("; "):
            one, two = PAIR.findall(row)
            words = row.partition(f"{two[0]} {two[1]} ")[2]
            assert order.index(one) < order.index(two)
            said[one, two] = words.split()
        for one, two in itertools.combinations(order, 2):
            first, second = find(scene, *one), find(scene, *two)
            expected = []
            for axis, (low, high) in enumerate((("left", "right"), ("above", "below"))):
                gap = sum(first.pixels[axis::2]) - sum(second.pixels[axis::2])
                if abs(gap) > 0.24 * 112:
                    expected.append(low if gap < 0 else high)
            assert said.get((one, two), []) == expected
        rows += len(said)
    assert rows > 200


def near(first: Thing, second: Thing) -> bool:
    gaps = [sum(first.pixels[axis::2]) - sum(second.pixels[axis::2]) for axis in (0, 1)]
    return all(abs(gap) <= 0.24 * 112 for gap in gaps)


def test_attributes_are_true_and_named_once() -> None:
    asked = Counter()
    for index in range(150):
        scene = make_scene(generator(5, "attributes", index))
        told = attributes(scene, generator(6, "attributes", index))
        if told is None:
            continue
        question, answer = told
        wanted = re.match(r"Name the (colour|shape) of each: ", question)[1]
        keys = question.removesuffix(".").split(": ")[1].split(", ")
        asked[wanted] += len(keys)
        known = {"colour": "shape", "shape": "colour"}[wanted]
        assert answer == "; ".join(
            f"{key} {getattr(next(t for t in scene.things if getattr(t, known) == key), wanted)}"
            for key in keys
        )
        assert all([getattr(thing, known) for thing in scene.things].count(key) == 1 for key in keys)
    assert min(asked["colour"], asked["shape"]) > 50


def test_a_reason_states_the_answer_last() -> None:
    """The last word of a reason is the answer, and what stands before it is what was asked about."""
    for index in range(200):
        scene = make_scene(generator(5, "reasons", index), count=3)
        kind = tuple(WORDINGS)[index % len(WORDINGS)]
        asked = ask(scene, kind, generator(6, "reasons", index))
        if asked is None or kind == "count":
            assert asked is None or asked.reason == ""
            continue
        subject, _, answer = asked.reason.rpartition(" ")
        assert answer == asked.options[asked.answer] == solve(asked.text, scene)
        for words in subject.split(", "):
            assert re.search(rf"\b{words}\b", asked.text)
        if kind in ("side", "level"):
            first, second = PAIR.findall(subject)
            axis = ("side", "level").index(kind)
            gap = sum(find(scene, *first).pixels[axis::2]) - sum(find(scene, *second).pixels[axis::2])
            assert (gap < 0) == (answer in ("left", "above"))
