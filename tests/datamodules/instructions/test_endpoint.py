"""Requests to a local server: concurrent, through every fault, and never twice for one answer."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.instructions.by_model import fault
from datamodules.instructions.endpoint import Endpoint, Spent, ask_all, connect
from datamodules.instructions.response_cache import ResponseCache
from tests.datamodules.instructions.server import Body, Reply, Server, failing, saying, serving

GOOD = '{"pairs": []}'


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")


def ask(
    server: Server, file: Path, count: int = 1, **options: Any
) -> tuple[Spent, dict[str, str], ResponseCache]:
    """Asks so many questions, named by their numbers."""
    asked = Endpoint("m", server.url, **{"timeout": 5.0, **options})
    bodies = {str(n): asked.body([{"role": "user", "content": str(n)}]) for n in range(count)}
    answers = ResponseCache(file)
    spent, failed = ask_all(asked, bodies, answers, fault, progress=False)
    return spent, failed, answers


def first(reply: Reply) -> Callable[[int, Body], Reply]:
    """A fault first, then a good answer."""
    return lambda number, _: saying(GOOD) if number else reply


def test_a_good_answer_is_kept_with_its_tokens(tmp_path: Path) -> None:
    with serving(lambda *_: saying(GOOD)) as server:
        spent, failed, answers = ask(server, tmp_path / "a", extra={"temperature": 0.5})
        assert (spent, failed) == (Spent(1, 0, 0, 100, 10), {})
        assert answers["0"].text == GOOD
        assert server.keys == ["Bearer secret"]
        sent = {"model": "m", "temperature": 0.5, "response_format": {"type": "json_object"}}
        assert server.bodies == [{**sent, "messages": [{"role": "user", "content": "0"}]}]
        ask(server, tmp_path / "a", extra={"response_format": None}, count=2)
        assert set(server.bodies[1]) == {"model", "messages"}
        assert len(server.bodies) == 2  # the first came from the cache
    assert "secret" not in (tmp_path / "a").read_text()


def test_an_endpoint_that_tells_no_tokens_counts_none(tmp_path: Path) -> None:
    with serving(lambda *_: saying(GOOD, usage=False)) as server:
        assert ask(server, tmp_path / "a")[0] == Spent(1, 0, 0, 0, 0)


FAULTS = {
    "500": failing(500),
    "503": failing(503),
    "408": failing(408),
    "time-out": Reply(delay=1.0),
    "cut body": Reply(body=saying(GOOD).body, cut=20),
    "reset": Reply(reset=True),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_the_connection_is_tried_again(tmp_path: Path, case: str) -> None:
    with serving(first(FAULTS[case])) as server:
        spent, failed, answers = ask(server, tmp_path / "a", timeout=0.5)
        assert (spent.requests, spent.retried, failed, answers["0"].text) == (1, 1, {}, GOOD)
        assert len(server.bodies) == 2


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    """The usual pause before a second try is half a second at most."""
    with serving(first(failing(429, Retry_After="1.2"))) as server:
        assert ask(server, tmp_path / "a")[1] == {}
        assert server.times[1] - server.times[0] >= 1.2


BROKEN = {
    "body": Reply(body=b'{"choices": [{"index": 0, "mess'),
    "page": Reply(body=b"<html>hello</html>", headers={"Content-Type": "text/html"}),
    "no choice": Reply(body=b'{"error": {"message": "overloaded"}}'),
    "no text": saying(""),
    "cut text": saying('{"pairs": [{"kind": "VQA", "que'),
    "prose": saying("Here you are: a dog."),
    "list": saying("[]"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_answer_is_counted_and_requested_once(tmp_path: Path, case: str) -> None:
    with serving(lambda *_: BROKEN[case]) as server:
        spent, failed, answers = ask(server, tmp_path / "a")
        assert (spent.requests, spent.malformed, failed, len(answers)) == (1, 1, {}, 1)
        ask(server, tmp_path / "a")
        assert len(server.bodies) == 1


def test_one_request_without_an_answer_does_not_stop_the_others(tmp_path: Path) -> None:
    def answer(_: int, body: Body) -> Reply:
        return failing(400) if body["messages"][0]["content"] == "1" else saying(GOOD)

    with serving(answer) as server:
        spent, failed, _ = ask(server, tmp_path / "a", count=4)
        assert (spent.requests, sorted(failed)) == (3, ["1"])
        assert "says 400: " in failed["1"]
        assert "no luck today" in failed["1"]
        ask(server, tmp_path / "a", count=4)
        assert len(server.bodies) == 5  # only the failed one again


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_stops_at_once(tmp_path: Path, status: int) -> None:
    with serving(lambda *_: failing(status)) as server:
        with pytest.raises(ValueError, match=rf"says {status}: .*no luck today[^$]*Check OPENAI_API_KEY"):
            ask(server, tmp_path / "a", count=50, concurrency=2)
        assert len(server.bodies) <= 4


def test_an_endpoint_that_is_down_stops_the_run(tmp_path: Path) -> None:
    with serving(lambda number, _: saying(GOOD) if number < 3 else failing(500)) as server:
        with pytest.raises(ValueError, match=r"gave no answer to 5 requests in a row; the last: .*says 500"):
            ask(server, tmp_path / "a", count=50, concurrency=1, retries=0)
        assert len(server.bodies) == 8
        assert len(ResponseCache(tmp_path / "a")) == 3
    with pytest.raises(ValueError, match=r"in a row; the last: Connection error\."):
        ask(server, tmp_path / "b", count=9, retries=0)


def test_requests_are_under_way_at_once(tmp_path: Path) -> None:
    """No request of four is answered before all four are there."""
    together = threading.Barrier(4, timeout=20)

    def answer(*_: Any) -> Reply:
        together.wait()
        return saying(GOOD)

    with serving(answer) as server:
        assert ask(server, tmp_path / "a", count=8, concurrency=4, timeout=30.0)[0].requests == 8


def test_no_more_are_under_way_than_asked_for(tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def answer(*_: Any) -> Reply:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.05)
        with lock:
            now[0] -= 1
        return saying(GOOD)

    with serving(answer) as server:
        ask(server, tmp_path / "a", count=9, concurrency=3)
    assert 1 < most[0] <= 3


def test_ctrl_c_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    def answer(number: int, _: Body) -> Reply:
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
            return Reply(delay=0.5)
        return saying(GOOD)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with serving(answer) as server, pytest.raises(KeyboardInterrupt):
            ask(server, tmp_path / "a", count=10, concurrency=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(ResponseCache(tmp_path / "a")) == 4
    with serving(lambda *_: saying(GOOD)) as server:
        spent, _, answers = ask(server, tmp_path / "a", count=10, concurrency=1)
        asked = [body["messages"][0]["content"] for body in server.bodies]
    assert asked == ["4", "5", "6", "7", "8", "9"]
    assert (spent.requests, len(answers)) == (6, 10)
    assert len((tmp_path / "a").read_text().splitlines()) == 10


def test_the_environment_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert connect("m", 2, 3, 4.0, None) == Endpoint("m", "http://localhost:8000/v1", 2, 3, 4.0)
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert connect("m", 2, 3, 4.0, {"n": 1}).base_url == "https://api.openai.com/v1"
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="set OPENAI_API_KEY to the key of the endpoint"):
        connect("m", 2, 3, 4.0, None)


@pytest.mark.parametrize("wrong", [("", 1, 0, 1.0), ("m", 0, 0, 1.0), ("m", 1, -1, 1.0), ("m", 1, 0, 0.0)])
def test_settings_that_cannot_be_meant(wrong: tuple[str, int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"--model is empty|(concurrency|retries|timeout) should be a"):
        connect(*wrong, None)


def test_a_missing_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(
        ValueError, match=r"pip install 'octavius\[instructions\]'; without --model, templates"
    ):
        connect("m", 1, 0, 1.0, None)


def test_a_key_is_of_the_request_alone() -> None:
    one = Endpoint("m", "http://x", concurrency=1)
    body = one.body([{"role": "user", "content": "a"}])
    assert one.key(body) == Endpoint("m", "http://x", retries=0).key(json.loads(json.dumps(body)))
