"""The requests to llama-server and what it answers: parts of a text, or an error.

Prompts are sent as token ids, so that they are those of training whatever tokenizer llama.cpp has. Three properties
of the server shape the requests. Experts of weight 0 are named as well, since an empty list leaves all at the scale
that the server was started with (its issue 28674). `cache_prompt` is off, because the server would reuse the states
of an earlier prompt even if they were computed with other scales. And requests of different scales are not batched
together.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from octavius.display import visible
from octavius.serve.requests import RequestError
from octavius.serve.rows import Finish, Row

FINISHES: dict[str, Finish] = {"eos": "stop", "word": "stop", "limit": "length"}
"""Reason for the end of an answer by llama-server's `stop_type`."""

LARGEST_SEED = (1 << 32) - 2
"""llama-server draws a seed of its own for the largest number of 32 bits."""


@dataclass(frozen=True)
class Part:
    """A part of a streamed answer.

    Attributes:
        content: the new text.
        tokens: number of tokens of the answer so far.
        finish: why the answer ends with this part; None if it goes on.
    """

    content: str
    tokens: int
    finish: Finish | None


def request_of(row: Row, ids: Sequence[int]) -> dict[str, Any]:
    """The body of a request to `/completion`.

    Args:
        row: the row.
        ids: the id of each expert in the server.
    """
    question, weights = row.question, row.answer.weights
    assert weights is not None
    body = {
        "prompt": row.example.prompt.ids,
        "n_predict": row.limit,
        "stream": True,
        "cache_prompt": False,
        "lora": [{"id": index, "scale": weight} for index, weight in zip(ids, weights, strict=True)],
        # Only these samplers, in the order of ours: llama-server's own defaults cut the distribution further.
        "samplers": ["temperature", "top_p"],
        "temperature": question.temperature,
        "top_p": question.top_p,
    }
    return body if question.seed is None else {**body, "seed": question.seed % (LARGEST_SEED + 1)}


def read_part(text: str) -> Part:
    """A part from the JSON of its event.

    Raises:
        RequestError: the event reports an error, or is not of this form.
    """
    try:
        found = json.loads(text)
        if "error" in found:
            raise error_of(int(found["error"].get("code", 500)), text)
        finish = FINISHES.get(found["stop_type"], "length") if found["stop"] else None
        return Part(str(found["content"]), int(found["tokens_predicted"]), finish)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"llama-server sent an event that is not understood ({type(error).__name__}: {error})", status=502
        ) from None


def error_of(status: int, text: str) -> RequestError:
    """What a client is told of an error of llama-server: its own message, with a status of ours.

    A question that is too long is the client's to change, and a server that loads its model can be asked again; all
    else is between the two servers.
    """
    said = ""
    with suppress(ValueError, KeyError, TypeError):
        error = json.loads(text.removeprefix("error:"))
        error = error.get("error", error)
        said = visible(str(error["message"]), 300)
        if error.get("type") == "exceed_context_size_error":
            return RequestError(f"llama-server: {said}", "messages")
    if status == 503:
        return RequestError(f"llama-server is not ready: {said or 'status 503'}; ask again later", status=503)
    return RequestError(
        f"llama-server answers with status {status}: {said or 'without a reason'}", status=502
    )
