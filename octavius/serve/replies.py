"""Answers and errors as the JSON objects of OpenAI's chat format, with the field `experts` added."""

import json
import time
from typing import Any
from uuid import uuid4

from octavius.serve.requests import MODEL, RequestError
from octavius.serve.rows import Answer, Finish

REASONS: dict[Finish, str] = {"stop": "stop", "length": "length", "cancelled": "length"}
"""OpenAI's name of each reason for which an answer ends; one that the time limit cancels counts as too long."""

TYPES = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
"""Type of an error by status; other statuses below 500 are `invalid_request_error`."""


class Reply:
    """The objects of one reply, which share an id and a time."""

    def __init__(self, usage: bool = False) -> None:
        """Draws the id.

        Args:
            usage: whether a stream ends with the numbers of tokens.
        """
        self._usage = usage
        self._shared = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": MODEL}

    def whole(self, answer: Answer) -> dict[str, Any]:
        """A `chat.completion`."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answer)}
        head = {**self._shared, "object": "chat.completion"}
        return {**head, "choices": [choice], "usage": usage_of(answer), "experts": experts_of(answer)}

    def first(self, answer: Answer) -> str:
        """The event that opens a stream; it holds the routing."""
        return self._event({"role": "assistant", "content": ""}, None, experts=experts_of(answer))

    def more(self, text: str) -> str:
        """The event of further text."""
        return self._event({"content": text}, None)

    def last(self, answer: Answer) -> str:
        """The events that end a stream."""
        events = self._event({}, _reason(answer))
        if self._usage:
            head = {**self._shared, "object": "chat.completion.chunk"}
            events += event({**head, "choices": [], "usage": usage_of(answer)})
        return f"{events}data: [DONE]\n\n"

    def _event(self, delta: dict[str, Any], reason: str | None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._usage else {}
        return event(
            {**self._shared, "object": "chat.completion.chunk", "choices": [choice], **usage, **more}
        )


def event(content: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content)}\n\n"


def usage_of(answer: Answer) -> dict[str, int]:
    """The numbers of tokens."""
    said, asked = answer.tokens, answer.prompt_tokens
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def experts_of(answer: Answer) -> dict[str, Any] | None:
    """Weights (E,) of the experts, their entropy in nats and the margin of the largest; None without experts."""
    if answer.weights is None:
        return None
    return {"weights": list(answer.weights), "entropy": answer.entropy, "margin": answer.margin}


def error_object(error: RequestError) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def _reason(answer: Answer) -> str:
    return REASONS[answer.finish or "cancelled"]
