"""Concurrent requests to a language model behind an OpenAI-compatible endpoint.

Every answer is cached as soon as it arrives, malformed ones as well, so that none is paid for twice.
Responses are bounded in time and size (`http.py`), and secrets are removed from them before they are stored
or printed (`redaction.py`).
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.instructions.http import FAULT, bounded_client
from datamodules.instructions.prompts import Message
from datamodules.instructions.redaction import Secrets, credentials, secrets_of
from datamodules.instructions.response_cache import Response, ResponseCache, key_of
from octavius.limits import POSITIVE_NUMBER, Range

OPENAI = "https://api.openai.com/v1"

IN_A_ROW = 5
"""Consecutive requests without an answer after which the endpoint is considered down."""

FATAL = (401, 403, 404)
"""Status codes that every further request would get too: wrong key, unknown model or address."""

MOST_TOKENS = 10**9
"""Largest plausible token count of one request; a larger value counts as 0."""


@dataclass(frozen=True)
class Endpoint:
    """Connection settings of a model.

    Attributes:
        model: its name at the endpoint.
        base_url: address of the endpoint, without credentials.
        concurrency: number of concurrent requests.
        retries: how often an unanswered request is repeated (429, 408, 409, 5xx, a time-out, a broken
            connection), after the seconds in `Retry-After`, or 0.5, 1, 2, 4 and at most 8.
        timeout: seconds until an answer must be complete.
        extra: further fields of every request, such as temperature; null removes one.
        auth: user name and password from the address.
        secrets: values removed from everything that the endpoint returns.
    """

    model: str
    base_url: str
    concurrency: int = 8
    retries: int = 6
    timeout: float = 120.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    secrets: Secrets = field(
        default_factory=lambda: secrets_of(os.environ.get("OPENAI_API_KEY")), compare=False
    )

    def body(self, messages: list[Message]) -> dict[str, Any]:
        """The JSON body of a request."""
        usual = {"model": self.model, "messages": messages, "response_format": {"type": "json_object"}}
        return {name: value for name, value in {**usual, **self.extra}.items() if value is not None}

    def key(self, body: Mapping[str, Any]) -> str:
        """The cache key of a request."""
        return key_of(self.base_url, body)


@dataclass
class Spent:
    """Usage of a run.

    Attributes:
        requests: requests that were answered.
        retried: retries.
        malformed: answers that are not in the format asked for.
        tokens_in: tokens of all prompts.
        tokens_out: tokens of all answers.
    """

    requests: int = 0
    retried: int = 0
    malformed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def count(self, usage: Any) -> tuple[int, int]:
        """Adds the token counts of a response; missing or implausible counts are 0."""
        said = usage if isinstance(usage, dict) else {}
        tokens = [said.get(f"{name}_tokens") for name in ("prompt", "completion")]
        known = [one if type(one) is int and 0 <= one <= MOST_TOKENS else 0 for one in tokens]
        self.tokens_in += known[0]
        self.tokens_out += known[1]
        return known[0], known[1]


class UnansweredError(Exception):
    """One request got no answer; others may."""


CONCURRENCY, RETRIES = Range(1, 1024, integer=True), Range(0, 1000, integer=True)


def connect(
    model: str, concurrency: int, retries: int, timeout: float, extra: Mapping[str, Any] | None
) -> Endpoint:
    """The endpoint set by the environment variables OPENAI_BASE_URL and OPENAI_API_KEY.

    Raises:
        ValueError: the client or the key is missing, or a setting is invalid.
    """
    if not model.strip():
        raise ValueError("--model is empty; name a model of the endpoint")
    CONCURRENCY.check(concurrency=concurrency)
    RETRIES.check(retries=retries)
    POSITIVE_NUMBER.check(timeout=timeout)
    client()
    if not os.environ.get("OPENAI_API_KEY"):
        raise ValueError(
            "set OPENAI_API_KEY to the key of the endpoint (to any word for one that asks for none), and "
            f"OPENAI_BASE_URL to its address if it is not {OPENAI}"
        )
    key = os.environ["OPENAI_API_KEY"]
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            "OPENAI_API_KEY has a space, a line break or a character that is not allowed in an HTTP header; copy "
            "the key again"
        )
    address = os.environ.get("OPENAI_BASE_URL") or OPENAI
    base_url, auth = without_credentials(address)
    return Endpoint(
        model,
        base_url,
        concurrency,
        retries,
        timeout,
        extra or {},
        auth,
        secrets_of(key, *credentials(address)),
    )


def without_credentials(address: str) -> tuple[str, tuple[str, str] | None]:
    """Splits an address into the address without credentials, and user name and password (None without any).

    Raises:
        ValueError: it is not an HTTP address.
    """
    auth = credentials(address)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("OPENAI_BASE_URL is no address such as http://localhost:8000/v1")
    if parts.query:  # not shown, as it may hold a key; the client would put the path of a request behind it
        raise ValueError(
            "OPENAI_BASE_URL has a query (?name=value), expected an address such as http://localhost:8000/v1; give "
            "a key by OPENAI_API_KEY"
        )
    name = f"[{host}]" if ":" in host else host
    location = name if port is None else f"{name}:{port}"
    return urlunsplit((parts.scheme, location, parts.path, "", "")), (auth if any(auth) else None)


def client() -> Any:
    """Imports the official client, an optional dependency.

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
    answers: ResponseCache,
    fault: Callable[[str], str | None],
    progress: bool,
) -> tuple[Spent, dict[str, str]]:
    """Sends all requests that are not cached, and caches each answer at once.

    Args:
        endpoint: the endpoint to ask.
        bodies: requests by key.
        answers: the cache of responses.
        fault: returns what is malformed in an answer, None if nothing; malformed answers are counted.
        progress: show a progress bar.

    Returns:
        The usage, and the reason for each request without an answer.

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
    answers: ResponseCache,
    fault: Callable[[str], str | None],
    spent: Spent,
    failed: dict[str, str],
    bar: Any,
) -> None:
    waiting = iter(bodies.items())
    in_a_row = 0

    async def work(connection: Any, waiting: Iterator[tuple[str, Mapping[str, Any]]]) -> None:
        nonlocal in_a_row
        for key, body in waiting:  # one iterator shared by all workers: each takes the next request
            try:
                await _ask(connection, endpoint, key, body, answers, fault, spent)
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

    connection = client().AsyncOpenAI(
        base_url=endpoint.base_url,
        max_retries=endpoint.retries,
        timeout=endpoint.timeout,
        http_client=bounded_client(endpoint.timeout, endpoint.auth),
    )
    async with connection, asyncio.TaskGroup() as group:
        for _ in range(min(endpoint.concurrency, len(bodies))):
            group.create_task(work(connection, waiting))


async def _ask(
    connection: Any,
    endpoint: Endpoint,
    key: str,
    body: Mapping[str, Any],
    answers: ResponseCache,
    fault: Callable[[str], str | None],
    spent: Spent,
) -> None:
    """Sends one request and caches its answer, also a malformed one: no answer is paid for twice.

    Raises:
        UnansweredError: this request got no answer.
        ValueError: no request will be answered.
    """
    answer = await _once(connection, endpoint, body, spent)
    answers.add(key, answer)
    spent.requests += 1
    spent.malformed += bool(answer.fault or fault(answer.text))


async def _once(connection: Any, endpoint: Endpoint, body: Mapping[str, Any], spent: Spent) -> Response:
    """One answer, with secrets removed.

    Raises:
        UnansweredError: this request got no answer.
        ValueError: no request will be answered.
    """
    openai, rest = client(), {name: body[name] for name in body if name not in ("model", "messages")}
    redact = endpoint.secrets.redact
    try:
        raw = await connection.chat.completions.with_raw_response.create(
            model=body["model"], messages=body["messages"], extra_body=rest
        )
    except openai.APIStatusError as error:
        said = f"{endpoint.base_url} says {error.status_code}: {redact(error.message)[:300]}"
        if 300 <= error.status_code < 400:
            location = redact(str(error.response.headers.get("location", "nowhere")))[:200]
            raise ValueError(
                f"{endpoint.base_url} sends requests on to {location}, which are not followed, as the key would go "
                "there too; set OPENAI_BASE_URL to the address itself"
            ) from None
        if error.status_code in FATAL:
            raise ValueError(f"{said}\nCheck OPENAI_API_KEY, OPENAI_BASE_URL and --model") from None
        raise UnansweredError(said) from None
    except openai.OpenAIError as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise UnansweredError(redact(f"{error}{cause}")[:300]) from None
    spent.retried += raw.retries_taken
    text, usage, wrong = said_in(raw.http_response.content)
    return Response(redact(text), *spent.count(usage), fault=redact(wrong))


def said_in(content: bytes) -> tuple[str, Any, str]:
    """The text, the usage, and what is wrong if there is no text, from the body of a response."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        return "", None, f"the endpoint did not answer in JSON: {str(error)[:200]}"
    body = found if isinstance(found, dict) else {}
    if FAULT in body:
        return "", None, str(body[FAULT])[:200]
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str) or not text.strip():
        start = content[:200].decode(errors="replace")
        return "", body.get("usage"), f"the endpoint's answer holds no text: {start}"
    return text, body.get("usage"), ""
