"""The HTTP application: what the official client gets, and what is refused, with which status."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from octavius.cli.serve import listening
from octavius.instruction.sample import Media, Region
from octavius.serve.app import CHAT, DISCARDED, Limits, build_app
from octavius.serve.engine import Engine
from octavius.serve.requests import MODEL
from octavius.serve.rows import Question
from octavius.training import OctaviusModule
from tests.octavius.serve.conftest import Call, alone, asking, caller, wait_until

SECRET = "open sesame"


@pytest.fixture(scope="module")
def served(module: OctaviusModule) -> Iterator[tuple[Engine, str]]:
    """An engine and the address of its server, which listens on a free port and wants a token."""
    with Engine(module, batch_size=8) as engine, listening("127.0.0.1", 0) as listener:
        app = build_app(engine, Limits(body=1 << 20), SECRET)
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield engine, f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def client(served: tuple[Engine, str]) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=served[1], api_key=SECRET, max_retries=0, timeout=60) as client:
        yield client


def ask(client: openai.OpenAI, *messages: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        model=MODEL, messages=list(messages), **{"max_tokens": 8, **options}
    )


def test_a_conversation_about_a_picture(
    client: openai.OpenAI, twin: OctaviusModule, picture: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(picture)
    media = {"image": Media(path=tmp_path / "a.png")}
    first = ask(client, asking("What is red?", picture))
    text, gate = alone(twin, Question("What is red?", media=media, max_new_tokens=8))
    assert first.choices[0].message.content == text
    assert first.choices[0].finish_reason == "length"
    assert first.experts["weights"] == pytest.approx(gate, abs=1e-5)
    assert first.usage.completion_tokens == 8
    assert first.usage.total_tokens == 8 + first.usage.prompt_tokens
    second = ask(
        client,
        asking("What is red?", picture),
        first.choices[0].message,
        {"role": "user", "content": "And blue?"},
    )
    question = Question("And blue?", (("What is red?", text),), media, max_new_tokens=8)
    assert second.choices[0].message.content == alone(twin, question)[0]


def test_a_cloud_is_asked_about(
    client: openai.OpenAI, twin: OctaviusModule, cloud: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.npy").write_bytes(cloud)
    media = {"cloud": Media(path=tmp_path / "a.npy", region=Region("all", None))}
    found = ask(client, asking("What is this?", cloud=cloud))
    question = Question("What is this?", media=media, max_new_tokens=8)
    assert found.choices[0].message.content == alone(twin, question)[0]


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI) -> None:
    whole = ask(client, asking("What is red?"), max_tokens=20)
    events = list(
        ask(
            client,
            asking("What is red?"),
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [choice.delta.content or "" for event in events for choice in event.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert sum(map(bool, texts)) > 5
    assert events[0].experts == whole.experts
    assert events[-1].usage == whole.usage
    assert [choice.finish_reason for event in events for choice in event.choices][-1] == "length"
    assert len({event.id for event in events}) == 1


def test_eight_clients_share_batches(
    served: tuple[Engine, str], client: openai.OpenAI, picture: bytes
) -> None:
    engine, _ = served
    messages = [
        asking("What is red?" + " Or blue?" * index, picture if index % 2 else None) for index in range(8)
    ]
    single = [ask(client, message, max_tokens=20) for message in messages]
    batches, rows = engine.counts["batches"], engine.counts["rows"]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda message: ask(client, message, max_tokens=20), messages))
    for one, other in zip(single, found, strict=True):
        assert other.choices[0].message.content == one.choices[0].message.content
        assert other.experts["weights"] == pytest.approx(one.experts["weights"], abs=1e-5)
    assert engine.counts["rows"] - rows > engine.counts["batches"] - batches


def test_experts_are_forced(client: openai.OpenAI) -> None:
    found = ask(client, asking("What is red?"), extra_body={"experts": [0, 0, 1]})
    assert found.experts == {"weights": [0.0, 0.0, 1.0], "entropy": 0.0, "margin": 1.0}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_costs_nothing_more(
    served: tuple[Engine, str], client: openai.OpenAI, stream: bool
) -> None:
    engine, address = served
    before = dict(engine.counts)
    if stream:
        answer = ask(client, asking("What is red?"), max_tokens=1000, stream=True)
        next(iter(answer))
        answer.close()
    else:
        body = json.dumps({"messages": [asking("What is red?")], "max_tokens": 1000}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {SECRET}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(address.split(":")[2][:-3]))) as connection:
            connection.sendall(head.encode() + body)
            wait_until(lambda: engine.counts["tokens"] > before["tokens"])
    wait_until(lambda: engine.counts["cancelled"] > before["cancelled"])
    wait_until(lambda: engine.running == 0)
    assert engine.counts["tokens"] - before["tokens"] < 900
    assert ask(client, asking("What is red?")).choices[0].message.content


def test_the_token_is_wanted_everywhere_but_for_health(served: tuple[Engine, str], engine: Engine) -> None:
    with (
        openai.OpenAI(base_url=served[1], api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError, match="the token is wrong"),
    ):
        ask(stranger, asking("What is red?"))
    call = caller(engine, SECRET)
    for path in (CHAT, "/v1/models", "/metrics", "/x"):
        for header in ({}, {"authorization": SECRET}, {"authorization": "Bearer "}):
            found = call(path=path, method="GET", headers=header)
            assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
            assert found.error["code"] == "invalid_api_key"
    assert call(path="/health", method="GET").status == 200
    right = {"authorization": f"bearer {SECRET}"}
    assert call(path="/v1/models", method="GET", headers=right).status == 200


def test_a_large_upload_is_refused_before_it_is_kept(client: openai.OpenAI, call: Call) -> None:
    with pytest.raises(openai.APIStatusError, match="more than 1,048,576 bytes") as error:
        ask(client, asking("x" * (8 << 20)))
    assert error.value.status_code == 413
    assert call(b"x" * 65537).status == 413
    for length in ("65537", str(DISCARDED * 10)):
        assert call(b"{}", headers={"content-length": length}).status == 413


def test_defaults_and_neutral_values_are_taken(call: Call) -> None:
    body = {"messages": [{"role": "user", "content": "What is red?"}], "max_tokens": 2}
    plain = call(body).json["choices"]
    neutral = {"n": 1, "user": "me", "tools": [], "logprobs": False, "stop": None, "seed": 3, "stream": False}
    assert call({**body, **neutral}).json["choices"] == plain
    assert len(plain[0]["message"]["content"].split()) > 0


def test_a_full_queue_says_when_to_come_back(module: OctaviusModule) -> None:
    with Engine(module, batch_size=1) as engine:
        call = caller(engine, queue=1, seconds=3.0)
        waiting = [threading.Thread(target=call, kwargs={"silent": True}) for _ in range(2)]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        found = call({"messages": [asking("a")], "max_tokens": 1})
        assert (found.status, found.error["code"]) == (429, "queue_full")
        assert int(found.headers["retry-after"]) >= 1
        for thread in waiting:
            thread.join()
        assert call({"messages": [asking("a")], "max_tokens": 1}).status == 200


def test_time_runs_out(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert caller(engine, seconds=0.05)(silent=True).status == 408
    body = {"messages": [asking("What is red?")], "max_tokens": 1000}
    found = caller(engine, seconds=0.4)(body)
    if found.status == 200:  # a slow machine may not reach the first token
        assert found.json["choices"][0]["finish_reason"] == "length"
        assert 0 < found.json["usage"]["completion_tokens"] < 1000
    start = engine.module.model.start

    def slow(*rest: Any) -> Any:
        time.sleep(0.5)
        return start(*rest)

    monkeypatch.setattr(engine.module.model, "start", slow)
    assert caller(engine, seconds=0.4)(body).status == 504
    wait_until(lambda: engine.running + engine.waiting == 0)


def test_a_fault_of_ours_tells_nothing_of_the_inside(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error at /home/me")

    monkeypatch.setattr(engine.module.model, "start", broken)
    found = caller(engine)({"messages": [asking("a")], "max_tokens": 1})
    assert (found.status, found.error["type"]) == (500, "server_error")
    assert "CUDA" not in found.error["message"]
    assert engine.counts["failed"] == 1
    monkeypatch.undo()
    assert caller(engine)({"messages": [asking("a")], "max_tokens": 1}).status == 200


def test_a_server_that_closes_says_so(module: OctaviusModule) -> None:
    engine = Engine(module)
    call = caller(engine)
    engine.close()
    found = call({"messages": [asking("a")]})
    assert (found.status, "retry-after" in found.headers) == (503, True)
    assert call(path="/health", method="GET").status == 503
    engine.join(30)


def test_health_models_and_metrics(call: Call, engine: Engine, picture: bytes) -> None:
    assert call(path="/health", method="GET").json == {"status": "ok", "model": MODEL}
    [model] = call(path="/v1/models", method="GET").json["data"]
    assert (model["id"], model["experts"], model["modalities"]) == (MODEL, 3, ["image", "cloud"])
    for _ in range(2):
        assert call({"messages": [asking("a", picture)], "max_tokens": 3}).status == 200
    assert call({}).status == 400
    lines = call(path="/metrics", method="GET").body.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['octavius_requests_total{route="/v1/chat/completions",status="200"}'] == "2"
    assert values['octavius_requests_total{route="/v1/chat/completions",status="400"}'] == "1"
    assert values["octavius_tokens_total"] == str(engine.counts["tokens"])
    assert values["octavius_answer_seconds_count"] == "2"
    assert values["octavius_open_requests"] == "0"


def test_nothing_of_a_request_stays_on_the_disk(
    call: Call, picture: bytes, cloud: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert call({"messages": [asking("a", picture, cloud)], "max_tokens": 1}).status == 200
    assert call({"messages": [asking("a", picture, b"x")], "max_tokens": 1}).status == 400
    assert list(tmp_path.iterdir()) == []
