"""Requests come in, a language model behind an OpenAI-compatible endpoint is asked many at a time, answers go out."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.instructions.answers import Answer, Answers, key_of
from datamodules.instructions.prompts import Message

OPENAI = "https://api.openai.com/v1"

TRIES = 3
"""So often a request is made whose answer is not the JSON that was asked for."""

PAUSE = 0.5
"""Seconds before the second of those, doubled before each further one."""

IN_A_ROW = 5
"""After so many requests in a row without an answer the endpoint counts as down."""

FATAL = (401, 403, 404)
"""What is refused so is refused to every request: a wrong key, or an unknown model or address."""


@dataclass(frozen=True)
class Endpoint:
    """How a model is asked.

    Attributes:
        model: its name at the endpoint.
        base_url: where the endpoint is.
        concurrency: requests under way at once.
        retries: how often a request is made again that found no answer (429, 408, 409, 5xx, a time-out, a broken
            connection), after the seconds that `Retry-After` names, or 0.5, 1, 2, 4 and at most 8.
        timeout: seconds that an answer may take.
        extra: further fields of every request, such as temperature; null takes one away.
    """

    model: str
    base_url: str
    concurrency: int = 8
    retries: int = 6
    timeout: float = 120.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, messages: list[Message]) -> dict[str, Any]:
        """A whole request."""
        usual = {"model": self.model, "messages": messages, "response_format": {"type": "json_object"}}
        return {name: value for name, value in {**usual, **self.extra}.items() if value is not None}

    def key(self, body: Mapping[str, Any]) -> str:
        """The name of a request in the cache."""
        return key_of(self.base_url, body)


@dataclass
class Spent:
    """What a run took: requests answered, faults tried again, answers that were no JSON, tokens in and out."""

    requests: int = 0
    retried: int = 0
    again: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def count(self, usage: Any) -> tuple[int, int]:
        """Adds the tokens that an endpoint says it took; one that says nothing counts as none."""
        tokens = tuple(int(getattr(usage, f"{name}_tokens", 0) or 0) for name in ("prompt", "completion"))
        self.tokens_in += tokens[0]
        self.tokens_out += tokens[1]
        return tokens[0], tokens[1]


class UnansweredError(Exception):
    """One request found no answer; others may."""


def connect(
    model: str, concurrency: int, retries: int, timeout: float, extra: Mapping[str, Any] | None
) -> Endpoint:
    """The endpoint that the environment names.

    Raises:
        ValueError: the client or the key is missing, or a setting cannot be meant.
    """
    if not model.strip():
        raise ValueError("--model is empty; name a model of the endpoint")
    if concurrency < 1 or retries < 0 or timeout <= 0:
        raise ValueError(
            f"--concurrency should be at least 1, --retries 0, --timeout above 0; found {concurrency}, {retries}, "
            f"{timeout:g}"
        )
    client()
    if not os.environ.get("OPENAI_API_KEY"):
        raise ValueError(
            "set OPENAI_API_KEY to the key of the endpoint (to any word for one that asks for none), and "
            f"OPENAI_BASE_URL to its address if it is not {OPENAI}"
        )
    base_url = os.environ.get("OPENAI_BASE_URL") or OPENAI
    return Endpoint(model, base_url, concurrency, retries, timeout, extra or {})


def client() -> Any:
    """The module of the official client.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import openai
    except ImportError:
        raise ValueError(
            "asking a language model needs the package openai: pip install 'octavius[instructions]'; without "
            "--model, templates need nothing"
        ) from None
    return openai


def ask_all(
    endpoint: Endpoint,
    bodies: Mapping[str, Mapping[str, Any]],
    answers: Answers,
    fault: Callable[[str], str | None],
    progress: bool,
) -> tuple[Spent, dict[str, str]]:
    """Asks all that the cache does not know, and keeps each answer in it at once.

    Args:
        endpoint: how to ask.
        bodies: requests by their keys.
        answers: the cache.
        fault: what is wrong with the form of an answer, so that it should be asked for again; None for a good one.
        progress: shows a progress bar.

    Returns:
        What it took, and for each request without an answer why.

    Raises:
        ValueError: the endpoint refuses the key or the model, or does not answer at all.
    """
    left = {key: body for key, body in bodies.items() if key not in answers}
    spent, failed = Spent(), dict[str, str]()
    if left:
        with tqdm(
            total=len(bodies), desc="asking", initial=len(bodies) - len(left), disable=not progress
        ) as bar:
            try:
                asyncio.run(_ask_all(endpoint, left, answers, fault, spent, failed, bar))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
    return spent, failed


async def _ask_all(
    endpoint: Endpoint,
    bodies: Mapping[str, Mapping[str, Any]],
    answers: Answers,
    fault: Callable[[str], str | None],
    spent: Spent,
    failed: dict[str, str],
    bar: Any,
) -> None:
    waiting = iter(bodies.items())
    in_a_row = 0

    async def work(asking: Any, waiting: Iterator[tuple[str, Mapping[str, Any]]]) -> None:
        nonlocal in_a_row
        for key, body in waiting:  # shared by all workers: each takes the next
            try:
                answers.add(key, await _ask(asking, body, fault, spent))
                in_a_row = 0
            except UnansweredError as error:
                failed[key] = str(error)
                in_a_row += 1
                if in_a_row >= IN_A_ROW:
                    raise ValueError(
                        f"{endpoint.base_url} gave no answer to {in_a_row} requests in a row; the last: {error}.\n"
                        "The answers so far are kept: the same command goes on from there"
                    ) from None
            bar.set_postfix_str(f"{spent.tokens_in:,} + {spent.tokens_out:,} tokens", refresh=False)
            bar.update()

    asking = client().AsyncOpenAI(
        base_url=endpoint.base_url, max_retries=endpoint.retries, timeout=endpoint.timeout
    )
    async with asking, asyncio.TaskGroup() as group:
        for _ in range(min(endpoint.concurrency, len(bodies))):
            group.create_task(work(asking, waiting))


async def _ask(
    asking: Any, body: Mapping[str, Any], fault: Callable[[str], str | None], spent: Spent
) -> Answer:
    """One answer; of bad form only if it was so every time.

    Raises:
        UnansweredError: there is none.
        ValueError: no request will be answered.
    """
    last, said = None, ""
    for number in range(TRIES):
        if number:
            spent.again += 1
            await asyncio.sleep(PAUSE * 2 ** (number - 1))
        text, tokens, said = await _once(asking, body, spent)
        if not said:
            last, said = Answer(text, *tokens), fault(text) or ""
            if not said:
                break
    if last is None:
        raise UnansweredError(said)
    spent.requests += 1
    return last


async def _once(asking: Any, body: Mapping[str, Any], spent: Spent) -> tuple[str, tuple[int, int], str]:
    """The text of an answer, its tokens, and what is wrong with how it came."""
    openai, rest = client(), {name: body[name] for name in body if name not in ("model", "messages")}
    try:
        raw = await asking.chat.completions.with_raw_response.create(
            model=body["model"], messages=body["messages"], extra_body=rest
        )
        spent.retried += raw.retries_taken
        found = raw.parse()
    except openai.APIStatusError as error:
        said = f"{asking.base_url} says {error.status_code}: {error.message:.300}"
        if error.status_code in FATAL:
            raise ValueError(f"{said}\nCheck OPENAI_API_KEY, OPENAI_BASE_URL and --model") from None
        raise UnansweredError(said) from None
    except openai.OpenAIError as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise UnansweredError(f"{error}{cause}") from None
    except ValueError as error:
        return "", (0, 0), f"the endpoint did not answer in JSON: {error}"
    tokens = spent.count(getattr(found, "usage", None))
    choices = getattr(found, "choices", None)
    text = getattr(getattr(choices[0], "message", None), "content", None) if choices else None
    if not isinstance(text, str) or not text.strip():
        return "", tokens, f"the endpoint's answer holds no text: {found!r:.200}"
    return text, tokens, ""
