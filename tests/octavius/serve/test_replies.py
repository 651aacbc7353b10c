"""Answers as OpenAI's objects: a stream adds up to the whole answer."""

import json
from typing import Any

import pytest

from octavius.serve.replies import Reply, error_object
from octavius.serve.requests import RequestError
from octavius.serve.rows import Answer

ANSWER = Answer("A red ball.", tokens=4, prompt_tokens=20, weights=(0.75, 0.25), finish="stop")


def events(text: str) -> list[Any]:
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in parts]


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_adds_up_to_the_whole_answer(usage: bool) -> None:
    reply = Reply(usage)
    whole = reply.whole(ANSWER)
    stream = events(reply.first(ANSWER) + reply.more("A red ") + reply.more("ball.") + reply.last(ANSWER))
    assert stream.pop() == "[DONE]"
    assert {(chunk["id"], chunk["object"]) for chunk in stream} == {(whole["id"], "chat.completion.chunk")}
    if usage:
        last = stream.pop()
        assert (last["choices"], last["usage"]) == ([], whole["usage"])
    deltas = [chunk["choices"][0] for chunk in stream]
    assert "".join(choice["delta"].get("content", "") for choice in deltas) == ANSWER.text
    assert whole["choices"][0]["message"]["content"] == ANSWER.text
    assert deltas[-1]["finish_reason"] == whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"] == {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}
    assert stream[0]["experts"] == whole["experts"]
    assert whole["experts"]["margin"] == 0.5


def test_what_the_time_limit_ends_is_too_long_and_no_experts_are_null() -> None:
    whole = Reply().whole(Answer("A", finish="cancelled"))
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["experts"] is None


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (404, "not_found_error"), (500, "server_error")]
)
def test_errors_have_the_type_of_their_status(status: int, kind: str) -> None:
    error = error_object(RequestError("no", status=status))["error"]
    assert (error["message"], error["type"]) == ("no", kind)
