"""The callbacks of the page, over scripted answers and without a browser."""

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from octavius.demo import callbacks as module
from octavius.demo.asking import Turn
from octavius.demo.callbacks import EQUALLY, GATE, OWN, Callbacks, messages
from octavius.serve.rows import Answer
from tests.octavius.demo.scripted import GATE as CHOSEN
from tests.octavius.demo.scripted import scripted

# Found but not imported: importing Gradio takes each worker of the tests eight seconds.
pytestmark = pytest.mark.skipif(
    not (find_spec("gradio") and find_spec("plotly")), reason="the extra demo is not installed"
)


@pytest.fixture
def page(tmp_path: Path) -> Callbacks:
    """The callbacks."""
    return scripted(tmp_path, other=True)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that a visitor sees."""
    said: list[str] = []
    monkeypatch.setattr(module, "warn", said.append)
    return said


def last(stream: Generator[tuple[Any, ...]], place: int) -> Any:
    """The last value that a stream gives to a component."""
    skipped = {"__type__": "update"}
    return [values[place] for values in stream if values[place] != skipped][-1]


def test_an_answer_streams_with_boxes_and_bars_at_its_end(page: Callbacks) -> None:
    media = page.shown[0].media
    states = list(page.ask(" Find all objects. ", media, [], False))
    pending, first, end = states[1][0], states[2][0], states[-1][0]
    assert [message["content"][0] for message in (pending[1], first[1])] == ["…", "ball"]
    text, below = end[1]["content"]
    assert text.startswith("ball [0.10, 0.10, 0.50, 0.50], &lt;b&gt;box")
    assert below.value.count("<rect") == 6
    assert "<b>" not in below.value
    assert "margin between the first two: 0.50" in below.value
    assert states[-1][1][0].answer.weights == CHOSEN


@pytest.mark.parametrize(
    ("question", "said"),
    [("", "Ask something first"), ("fail", "2,048 tokens <b>"), ("crash", "error in the server")],
)
def test_errors_are_messages(page: Callbacks, warnings: list[str], question: str, said: str) -> None:
    """What was there stays: the first state changes nothing, the last one brings back chat and question."""
    turns = [Turn("What?", {}, Answer("That.", finish="stop"))]
    first, *others = page.ask(question, {}, turns, False)
    assert all(value == {"__type__": "update"} for value in first)
    assert [state[:3] for state in others[-1:]] == ([(messages(turns), turns, question)] if question else [])
    assert list(page.choose("expert 0 alone", question, {}, 0, 0, 0))[-1][0] in ([], {"__type__": "update"})
    assert len(warnings) == 2
    assert said in warnings[0]


def test_experts_are_forced_by_choices_and_by_sliders(page: Callbacks) -> None:
    media, question = page.shown[0].media, "Describe the picture."
    engine: Any = page.asked.engine
    assert page.choices == [
        GATE,
        "expert 0 alone",
        "expert 1 alone",
        "expert 2 alone",
        EQUALLY,
        "experts of detection",
        "experts of captioning",
        "experts of dense_captioning3d",
        OWN,
    ]
    states = list(page.choose("expert 1 alone", question, media, 0, 0, 0))
    assert engine.asked[-1].experts == (0.0, 1.0, 0.0)
    assert states[2][2:] == (0.0, 1.0, 0.0)
    assert states[-1][0][1]["content"][0].startswith("Expert 1 says:")
    assert "instead of the gate&#x27;s: expert 1 alone" in states[-1][0][1]["content"][1].value
    assert last(page.choose(EQUALLY, question, media, 0, 0, 0), 3) == pytest.approx(1 / 3)
    assert last(page.choose(GATE, question, media, 0, 0, 0), 2) == CHOSEN[0]
    assert engine.asked[-1].experts is None
    assert last(page.slide(question, media, 0.2, 0.0, 0.9), 2) == OWN
    assert engine.asked[-1].experts == (0.2, 0.0, 0.9)


def test_the_experts_of_a_task_are_the_mean_of_its_questions(page: Callbacks) -> None:
    engine: Any = page.asked.engine
    states = list(page.choose("experts of detection", "Describe the picture.", {}, 0, 0, 0))
    assert states[2][2:] == CHOSEN
    assert engine.asked[0].max_new_tokens == 1
    count = len(engine.asked)
    list(page.choose("experts of detection", "Describe the picture.", {}, 0, 0, 0))
    assert len(engine.asked) == count + 1  # computed once


def test_a_model_without_experts_has_nothing_to_force(tmp_path: Path) -> None:
    page = scripted(tmp_path, experts=0)
    assert page.asked.experts == 0
    assert "no experts" in page.asked.unforced
    [_, answer] = last(page.ask("Describe the picture.", {}, [], False), 0)
    assert answer["content"] == ["A red ball &amp; a *blue* box."]


def test_two_checkpoints_answer_the_same_question(page: Callbacks) -> None:
    media = page.shown[2].media
    *_, (_, _, view) = page.compare("Describe all objects.", media)
    assert {trace.name for trace in view.data if trace.mode == "lines"} == {"first.ckpt", "second.ckpt"}


def test_unreadable_files_are_refused_with_a_message(
    page: Callbacks, warnings: list[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    assert page.take_picture(str(bad), {}) == (None, {})
    assert "bad.png is not an image" in warnings[0]
    assert str(tmp_path) not in warnings[0]
    shown, media, _ = page.take_cloud(str(bad), "", {})
    assert (shown, media) == (None, {})
    cloud_file = str(page.shown[2].media["cloud"].path)
    assert page.take_cloud(cloud_file, "1 2", {})[1] == {}
    assert "it has 2 numbers" in warnings[2]


def test_uploads_replace_the_media(page: Callbacks) -> None:
    image, scan = page.shown[0].media["image"].path, page.shown[2].media["cloud"].path
    _, media = page.take_picture(str(image), {})
    _, media, view = page.take_cloud(str(scan), "0.5 0.5 0.5 1 1 1", media)
    assert set(media) == {"image", "cloud"}
    assert media["cloud"].region.box == (0.5, 0.5, 0.5, 1.0, 1.0, 1.0)
    assert view.visible
    assert set(page.take_picture(None, media)[1]) == {"cloud"}
    assert set(page.take_cloud(None, "", media)[1]) == {"image"}


def test_an_example_brings_its_question_and_the_right_answer(page: Callbacks) -> None:
    media, image, scan, view, question, truth = page.take_example(0)
    assert (media, question, scan) == (page.shown[0].media, "Find all objects.", None)
    assert image.endswith("things.png")
    assert "ball" in truth
    assert not view.visible


def test_texts_are_shown_literally() -> None:
    [asked, answer] = messages([Turn("<img src=x>", {}, Answer("a\x1b[b", finish="length"))])
    assert asked["content"] == ["&lt;img src=x&gt;"]
    assert answer["content"] == ["a\\x1b[b […]"]
