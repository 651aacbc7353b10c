"""The engine: batched answers equal those of single prompts, and each row ends when it should."""

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from octavius.instruction.sample import Media, Region
from octavius.serve.backend import ClosedError
from octavius.serve.engine import Engine
from octavius.serve.rows import Answer, Question, Row
from octavius.training import OctaviusModule
from tests.octavius.serve.conftest import alone, wait_until


@pytest.fixture
def questions(tmp_path: Path, picture: bytes, cloud: bytes) -> list[Question]:
    """Six questions of several lengths, with and without media and history."""
    (tmp_path / "a.png").write_bytes(picture)
    (tmp_path / "a.npy").write_bytes(cloud)
    image, scan = Media(path=tmp_path / "a.png"), Media(path=tmp_path / "a.npy", region=Region("all", None))
    return [
        Question("What is red?", max_new_tokens=9),
        Question("Describe the picture.", media={"image": image}, max_new_tokens=24),
        Question("What is this thing, and where does it stand?", media={"cloud": scan}, max_new_tokens=3),
        Question("And?", (("What is red?", "A red circle."), ("Why?", "It is.")), max_new_tokens=12),
        Question("What?", media={"image": image, "cloud": scan}, max_new_tokens=17),
        Question("Describe the picture.", media={"image": image}, max_new_tokens=1),
    ]


def together(engine: Engine, questions: list[Question]) -> list[list[Answer]]:
    """The states of the answers to questions that are asked at the same time."""
    heard: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in questions]
    rows = [engine.prepare(question) for question in questions]
    for row, one in zip(rows, heard, strict=True):
        engine.submit(row, one.put)
    return [states(one) for one in heard]


def states(heard: "queue.SimpleQueue[Any]") -> list[Answer]:
    found: list[Answer] = []
    while not found or found[-1].finish is None:
        found.append(heard.get(timeout=60))
        assert isinstance(found[-1], Answer), found[-1]
    return found


def test_batched_answers_equal_single_ones(
    engine: Engine, twin: OctaviusModule, questions: list[Question]
) -> None:
    found = together(engine, questions)
    for question, answers in zip(questions, found, strict=True):
        text, gate = alone(twin, question)
        last = answers[-1]
        assert last.text == text
        assert last.weights == pytest.approx(gate, abs=1e-5)
        assert last.tokens <= question.max_new_tokens
    assert len({answers[-1].weights for answers in found}) > 2  # each row has its own routing
    assert engine.counts["rows"] > engine.counts["batches"]


def test_a_state_continues_the_one_before(engine: Engine, questions: list[Question]) -> None:
    for answers in together(engine, questions):
        for before, after in pairwise(answers):
            assert after.text.startswith(before.text)
            assert after.tokens == before.tokens + 1
        assert answers[0].weights is not None


def test_forced_experts_replace_the_gate(
    engine: Engine, twin: OctaviusModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = Question("What is red?", max_new_tokens=8, experts=(0.0, 1.0, 0.0))
    free = replace(question, experts=None)
    gated, forced = (answers[-1] for answers in together(engine, [free, question]))
    assert forced.weights == (0.0, 1.0, 0.0)
    assert (forced.entropy, forced.margin) == (0.0, 1.0)
    assert gated.text != forced.text
    gate = twin.model.gate
    assert gate is not None
    choices = gate.choices

    def second_alone(asked: Any) -> Any:
        return [one._replace(weights=torch.tensor([[0.0, 1.0, 0.0]])) for one in choices(asked)]

    monkeypatch.setattr(gate, "choices", second_alone)
    assert forced.text == alone(twin, free)[0]


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5, 0.0, 0.0)])
def test_forced_weights_have_to_fit(engine: Engine, weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected 3 weights"):
        engine.prepare(Question("What is red?", experts=weights))


def test_sampling_depends_on_the_seed_alone(engine: Engine, questions: list[Question]) -> None:
    sampled = [
        replace(one, temperature=1.5, seed=seed, max_new_tokens=10)
        for one in questions[:2]
        for seed in (1, 2)
    ]
    batched = [answers[-1].text for answers in together(engine, sampled)]
    assert batched == [together(engine, [one])[0][-1].text for one in sampled]
    assert len(set(batched)) == 4
    greedy = replace(questions[0], temperature=1.0, top_p=1e-9)
    one, other = (answers[-1].text for answers in together(engine, [questions[0], greedy]))
    assert one == other


def test_an_answer_ends_before_a_stop_string(engine: Engine, twin: OctaviusModule) -> None:
    question = Question("What is red?", max_new_tokens=20)
    text, _ = alone(twin, question)
    stop = text[len(text) // 2 :][:3]
    answers = together(engine, [replace(question, stop=("@@@", stop))])[0]
    assert answers[-1].text == text[: text.index(stop)]
    assert answers[-1].finish == "stop"
    for before in answers:
        assert answers[-1].text.startswith(before.text)


def test_a_cancelled_row_ends_and_the_others_go_on(engine: Engine, twin: OctaviusModule) -> None:
    long = Question("What is red?", max_new_tokens=60)
    heard: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue(), queue.SimpleQueue()]
    rows = [engine.prepare(long), engine.prepare(replace(long, text="Describe the picture."))]

    def cancelling(answer: Answer | Exception) -> None:
        heard[0].put(answer)
        rows[0].cancel()

    engine.submit(rows[0], cancelling)
    engine.submit(rows[1], heard[1].put)
    gone, other = states(heard[0])[-1], states(heard[1])[-1]
    assert (gone.finish, gone.tokens) == ("cancelled", 1)
    assert other.text == alone(twin, rows[1].question)[0]
    assert engine.counts["cancelled"] == 1
    assert engine.counts["tokens"] == 1 + other.tokens


def test_closing_a_stream_cancels_it(engine: Engine) -> None:
    stream = engine.stream(Question("What is red?", max_new_tokens=400))
    assert next(stream).tokens == 1
    stream.close()
    wait_until(lambda: engine.counts["cancelled"] == 1)
    assert engine.counts["tokens"] < 400
    assert engine.running == 0


def test_a_row_that_waits_can_be_cancelled(module: OctaviusModule) -> None:
    with Engine(module, batch_size=1) as engine:
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        first = engine.submit(engine.prepare(Question("What is red?", max_new_tokens=30)), heard.put)
        second = engine.submit(engine.prepare(Question("What is red?")), heard.put)
        second.cancel()
        third = engine.submit(engine.prepare(Question("What is red?", max_new_tokens=1)), heard.put)
        wait_until(lambda: first.done and second.done and third.done)
        assert second.answer.tokens == 0
        assert first.answer.tokens == 30
        assert third.answer.finish == "length"


def test_newcomers_join_a_running_answer(engine: Engine, twin: OctaviusModule) -> None:
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    joined: list[Row] = []
    long, short = Question("What is red?", max_new_tokens=60), Question("What is blue?", max_new_tokens=4)
    extra = engine.prepare(short)

    def joining(answer: Answer | Exception) -> None:
        heard.put(answer)
        if not joined:
            joined.append(engine.submit(extra, lambda _: None))

    first = engine.submit(engine.prepare(long), joining)
    wait_until(lambda: extra.done)
    assert first.answer.tokens < 60
    assert states(heard)[-1].text == alone(twin, long)[0]
    assert extra.answer.text == alone(twin, short)[0]


def test_a_row_that_fails_takes_no_other_with_it(
    engine: Engine,
    module: OctaviusModule,
    twin: OctaviusModule,
    questions: list[Question],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Encoding one prompt fails, and then every pass over several rows."""
    start, generate = module.model.start, module.model.decoder.generate

    def broken_start(batch: Any, forced: Any = None) -> Any:
        if "cloud" in batch.media:
            raise RuntimeError("a kernel failed")
        return start(batch, forced)

    def broken_generate(embeddings: Any, *rest: Any, **options: Any) -> Any:
        if len(embeddings) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return generate(embeddings, *rest, **options)

    monkeypatch.setattr(module.model, "start", broken_start)
    monkeypatch.setattr(module.model.decoder, "generate", broken_generate)
    rows = [engine.prepare(question) for question in questions]
    for row in rows:
        engine.submit(row, lambda _: None)
    wait_until(lambda: all(row.done for row in rows))
    monkeypatch.undo()
    for row, question in zip(rows, questions, strict=True):
        if "cloud" in question.media:
            assert isinstance(row.error, RuntimeError)
        else:
            assert row.answer.text == alone(twin, question)[0]


def test_closing_ends_what_waits_at_once_and_what_runs_after_a_while(module: OctaviusModule) -> None:
    engine = Engine(module, batch_size=1)
    begun = threading.Event()
    first = engine.submit(engine.prepare(Question("What is red?", max_new_tokens=20)), lambda _: begun.set())
    second = engine.submit(engine.prepare(Question("What is red?")), lambda _: None)
    late = engine.prepare(Question("What is red?"))
    assert begun.wait(60)
    engine.close(60.0)
    engine.join(60)
    assert first.answer.finish in ("stop", "length")
    assert isinstance(second.error, ClosedError)
    with pytest.raises(ClosedError):
        engine.submit(late, lambda _: None)
    assert not Path(engine._scratch.name).exists()


@pytest.mark.parametrize(
    "options",
    [{"gate": "token"}, {"per_layer": True}, {"experts": 1}, {"experts": None}],
    ids=["in the layers", "by depth", "one expert", "no experts"],
)
def test_every_routing_is_served(
    make_module: Callable[..., OctaviusModule], questions: list[Question], options: dict[str, Any]
) -> None:
    module = make_module(**options)
    with Engine(module, batch_size=4) as engine:
        examples = [engine.prepare(question).example for question in questions[:4]]
        found = [answers[-1] for answers in together(engine, questions[:4])]
    for question, example, answer in zip(questions[:4], examples, found, strict=True):
        texts, gate = module.answer(module.processor.collate([example]), question.max_new_tokens)
        assert answer.text == texts[0]
        weights = None if gate is None else pytest.approx(gate[0].tolist(), abs=1e-5)
        assert answer.weights == weights


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question("  "), "the question is empty"),
        (Question("word " * 3000), "more than the 2,048 tokens"),
        (Question("x" * 40000), "40,000 characters"),
        (Question("a", media={"sound": Media(path=Path("a"))}), "no encoder for sound"),
        (Question("a", media={"image": Media(path=Path("a"))}), "no image file"),
    ],
)
def test_what_cannot_be_asked_is_told_at_once(engine: Engine, question: Question, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        engine.prepare(question)
    assert not str(error.value).startswith("sample")
