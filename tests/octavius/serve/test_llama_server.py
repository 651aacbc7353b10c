"""Questions are answered through llama-server with the gate's weights, and its errors reach the client as such.

The server is a stand-in; `test_real_llama_server.py` asks the real one.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavius.instruction.sample import References, Sample
from octavius.llama_cpp.gate import ExportedGate, read_gate, write_gate
from octavius.serve.backend import ClosedError
from octavius.serve.llama_server import LlamaServer
from octavius.serve.rows import Question
from tests.octavius.llama_cpp.models import tuned, write_language
from tests.octavius.serve.conftest import Call, asking, caller, wait_until
from tests.octavius.serve.stand_in import ANSWER, StandIn, event, running
from tests.tiny import refused

NAMES = ("expert0-a.gguf", "expert1-b.gguf", "expert2-c.gguf", "expert3-d.gguf")
BASE = "base-0.gguf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama_server")
    write_gate(folder, tuned(write_language(folder / "language")), BASE, NAMES)
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> ExportedGate:
    return read_gate(folder)


@pytest.fixture
def state() -> Iterator[StandIn]:
    with running(StandIn(f"/models/{BASE}", [f"/models/{name}" for name in NAMES])) as state:
        yield state


@pytest.fixture
def backend(state: StandIn, exported: ExportedGate) -> Iterator[LlamaServer]:
    with LlamaServer(exported, f"{state.url}/", batch_size=2) as backend:
        yield backend


@pytest.fixture
def call(backend: LlamaServer) -> Call:
    return caller(backend, body=65536, tokens=50, seconds=20.0)


def body(text: str = "What is red?", **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **options}


def test_an_answer_comes_with_the_weights_that_were_sent(
    call: Call, state: StandIn, exported: ExportedGate
) -> None:
    found = call(body(max_tokens=9)).json
    assert found["choices"][0]["message"]["content"] == "a red circle\U0001f534"
    assert found["choices"][0]["finish_reason"] == "stop"
    [asked] = state.asked
    sample = Sample("s", "conversation", "b", {}, "What is red?", References(("",)))
    prompt = exported.prompts.build(sample, "What is red?", None)
    weights = exported.weights(prompt.gate_ids)
    assert sorted(weights)[:2] == [0.0, 0.0]
    assert asked["prompt"] == prompt.ids
    assert asked["lora"] == [{"id": index, "scale": weight} for index, weight in enumerate(weights)]
    assert asked["cache_prompt"] is False
    assert (asked["n_predict"], asked["temperature"]) == (9, 0.0)
    assert found["experts"]["weights"] == list(weights)
    assert found["usage"] == {
        "prompt_tokens": len(prompt.ids),
        "completion_tokens": 6,
        "total_tokens": len(prompt.ids) + 6,
    }


def test_ids_are_those_of_the_files_in_the_server(call: Call, state: StandIn) -> None:
    state.adapters.reverse()
    call(body(experts=[0.5, 0.25, 0, 0.125]))
    scales = {one["id"]: one["scale"] for one in state.asked[0]["lora"]}
    assert scales == {3: 0.5, 2: 0.25, 1: 0.0, 0: 0.125}


def test_a_stream_shows_each_part(call: Call) -> None:
    lines = call(body(stream=True)).body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    texts = [one["choices"][0]["delta"].get("content", "") for one in events]
    assert [text for text in texts if text] == ["a", " red", " circle\U0001f534"]
    assert len(events[0]["experts"]["weights"]) == 4


def test_stop_strings_and_lengths_are_ours(call: Call, state: StandIn) -> None:
    state.events[3] = None  # the server would go on
    found = call(body(stop=["d ci"])).json["choices"][0]
    assert (found["message"]["content"], found["finish_reason"]) == ("a re", "stop")
    wait_until(lambda: state.dropped == 1)
    state.events[3] = event("", 6, stop=True, stop_type="limit")
    assert call(body()).json["choices"][0]["finish_reason"] == "length"
    call(body(max_tokens=40, temperature=0.5, top_p=0.9, seed=7))
    assert {name: state.asked[-1][name] for name in ("temperature", "top_p", "seed", "samplers")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "samplers": ["temperature", "top_p"],
    }


def test_earlier_turns_are_part_of_the_prompt(call: Call, state: StandIn, exported: ExportedGate) -> None:
    turns = [("user", "What is red?"), ("assistant", "a circle"), ("user", "And blue?")]
    assert call({"messages": [{"role": role, "content": text} for role, text in turns]}).status == 200
    text = exported.prompts.tokenizer.backend.decode(state.asked[0]["prompt"])
    assert text.index("What is red?") < text.index("a circle") < text.index("And blue?")


def test_pictures_and_clouds_are_refused(call: Call, state: StandIn, picture: bytes, cloud: bytes) -> None:
    for message in (asking("What is red?", picture), asking("What is this?", cloud=cloud)):
        found = call({"messages": [message]})
        assert found.status == 400
        assert "answers text alone" in found.error["message"]
    assert state.asked == []
    [model] = call(method="GET", path="/v1/models").json["data"]
    assert (model["experts"], model["modalities"]) == (4, [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"experts": [1, 0, 0]}, "expected 4 weights, one for each expert, found 3"),
        ({"messages": [{"role": "user", "content": "red " * 200}]}, "more than the 128 tokens"),
        ({"messages": [{"role": "user", "content": "red " * 10000}]}, "40,000 characters"),
    ],
)
def test_questions_that_do_not_fit_are_refused(call: Call, state: StandIn, changed: Any, said: str) -> None:
    found = call({**body(), **changed})
    assert found.status == 400
    assert said in found.error["message"]
    assert state.asked == []


TOO_LONG = {"code": 400, "message": "the request exceeds the context", "type": "exceed_context_size_error"}


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"status": 500, "error": {"error": {"message": "no memory"}}}, 502, "status 500: no memory"),
        ({"status": 500, "error": b"<html>"}, 502, "status 500: without a reason"),
        ({"status": 503, "error": {"error": {"message": "Loading model"}}}, 503, "not ready: Loading model"),
        ({"status": 400, "error": {"error": TOO_LONG}}, 400, "exceeds the context"),
        ({"loading": True}, 503, "not ready: Loading model"),
        ({"events": ["data: {nonsense\n\n"]}, 502, "not understood"),
        ({"events": ["data: []\n\n"]}, 502, "not understood"),
        ({"events": [{"error": {"code": 500, "message": "decode failed"}}]}, 502, "decode failed"),
        ({"events": ANSWER[:2]}, 502, "ended the answer halfway"),
        ({"adapters": ["/models/other.gguf"]}, 502, "has loaded other files than those of this export"),
        ({"adapters": [f"C:\\models\\{name}" for name in NAMES[:3]]}, 502, "other files"),
        ({"base": "/models/base-1.gguf"}, 502, "expected base-0.gguf, .* found base-1.gguf"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_llama_server_have_a_status(
    call: Call, state: StandIn, changed: dict[str, Any], status: int, said: str, stream: bool
) -> None:
    for name, value in changed.items():
        setattr(state, name, value)
    found = call(body(stream=stream))
    if stream and changed.get("events") == ANSWER[:2]:  # known only after the first part was sent
        last = json.loads(found.body.decode().split("\n\n")[-2].removeprefix("data: "))
        assert "ended the answer halfway" in last["error"]["message"]
        return
    assert found.status == status
    assert re.search(said, found.error["message"]), found.error["message"]
    assert found.error["type"] == ("server_error" if status > 500 else "invalid_request_error")


def test_a_server_that_goes_down_is_noticed(exported: ExportedGate) -> None:
    with running(StandIn(BASE, list(NAMES))) as state:
        backend = LlamaServer(exported, state.url)
    with backend:
        found = caller(backend)(body())
        assert found.status == 503
        assert f"no llama-server answers at {state.url}" in found.error["message"]
        assert (backend.running, backend.waiting, backend.counts["failed"]) == (0, 0, 1)


def test_a_question_whose_time_is_over_ends(backend: LlamaServer, state: StandIn) -> None:
    state.events = [None]
    assert caller(backend, seconds=0.3)(body()).status == 504
    wait_until(lambda: backend.counts["cancelled"] == 1 and backend.running == 0)
    wait_until(lambda: state.dropped == 1)
    state.events = [event("half", 1), None]
    found = caller(backend, seconds=0.5)(body()).json["choices"][0]
    assert (found["message"]["content"], found["finish_reason"]) == ("half", "length")


def test_no_more_requests_than_places_are_sent(backend: LlamaServer, state: StandIn) -> None:
    state.events = [None]
    said: list[Any] = []
    rows = [backend.submit(backend.prepare(Question("What is red?")), said.append) for _ in range(3)]
    wait_until(lambda: (backend.running, backend.waiting, len(state.asked)) == (2, 1, 2))
    rows[0].cancel()
    wait_until(lambda: len(state.asked) == 3)
    backend.close()
    backend.join(10)
    assert [type(one).__name__ for one in said] == ["Answer", "ClosedError", "ClosedError"]
    with pytest.raises(ClosedError):
        backend.submit(backend.prepare(Question("What is red?")), said.append)


def test_running_answers_have_their_time_at_the_end(backend: LlamaServer) -> None:
    said: list[Any] = []
    backend.submit(backend.prepare(Question("What is red?")), said.append)
    backend.close(grace=10)
    backend.join(10)
    assert said[-1].text == "a red circle\U0001f534"
    assert not backend.alive


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://localhost", "http://", "http://localhost:99999"])
def test_a_malformed_address_is_refused(exported: ExportedGate, url: str) -> None:
    with pytest.raises(ValueError, match="url should be an address such as http"):
        LlamaServer(exported, url)


def test_the_command_refuses_servers_that_do_not_fit(
    folder: Path, state: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "--port", "0", "--ckpt", str(folder)]
    assert "add --backend llama-server" in refused([*words, "--url", state.url], capsys)
    words += ["--backend", "llama-server", "--url"]
    state.adapters.append("/models/expert4-e.gguf")
    assert "has loaded other files" in refused([*words, state.url], capsys)
    state.loading = True
    assert "is not ready: Loading model" in refused([*words, state.url], capsys)
    assert "no llama-server answers" in refused([*words, "http://127.0.0.1:9"], capsys)
    words[4] = str(folder / "language")
    assert "has no gate/gate.json" in refused([*words, state.url], capsys)
