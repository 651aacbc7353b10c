"""Reads a request body in OpenAI's chat format into a `Question`, and refuses what cannot be honoured.

The format is that of https://platform.openai.com/docs/api-reference/chat/create, with two additions: the content part
`cloud_url` and the field `experts`. Pictures and clouds are taken from data URLs alone; no path and no other URL is
opened.
"""

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from octavius.boxes3d import PLAIN, box_error
from octavius.display import visible
from octavius.instruction.placement import placeholder
from octavius.instruction.sample import Media, Region
from octavius.limits import FRACTION, SEED_RANGE, Range
from octavius.serve.rows import Question

MODEL = "octavius"
"""Name of the model in requests and replies."""

MOST_STOPS, LONGEST_STOP = 4, 200
TEMPERATURE, TOP_P = Range(0, 2), Range(0, 1, exclude_minimum=True)

MOST_MEDIA = 32
"""Media of a request; all of them are in memory at once."""

PARTS = {"image_url": "image", "cloud_url": "cloud"}
"""Type of a content part to the modality of its medium."""

NEUTRAL: dict[str, Sequence[Any]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Fields of OpenAI's that are not supported, and the values that ask for nothing."""

IGNORED = {
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
}
"""Fields of OpenAI's that do not change an answer."""

READ = {
    *("messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "stop", "seed", "experts"),
}


class RequestError(Exception):
    """A request that is refused, with its HTTP status and the fields of OpenAI's error object."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        """Stores the fields."""
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


@dataclass(frozen=True)
class Medium:
    """A picture or cloud of a request.

    Attributes:
        content: the bytes of its file.
        param: where it stands in the request.
        region: the object of a cloud that the question is about.
    """

    content: bytes
    param: str
    region: Region | None = None


@dataclass(frozen=True)
class ChatRequest:
    """A request that was read.

    Attributes:
        question: the question, still without media.
        media: modality to medium, if there is one of each.
        placed: all media in the order of their placeholders in the texts, if there are several of a modality.
        stream: whether the answer is to be streamed.
        usage: whether the stream ends with the numbers of tokens.
    """

    question: Question
    media: Mapping[str, Medium]
    stream: bool
    usage: bool
    placed: tuple[tuple[str, Medium], ...] = ()


def read_request(body: bytes, most_tokens: int) -> ChatRequest:
    """Reads a request body.

    Args:
        body: JSON.
        most_tokens: largest `max_tokens` that is granted.

    Raises:
        RequestError: the body is malformed, or asks for something that cannot be honoured.
    """
    fields = _parse(body)
    fields = {name: value for name, value in fields.items() if value is not None}
    if unknown := sorted(set(fields) - READ - IGNORED - set(NEUTRAL)):
        raise RequestError(f"Unrecognized request argument supplied: {visible(unknown[0], 60)}", unknown[0])
    for name, values in NEUTRAL.items():
        if name in fields and fields[name] not in values:
            raise RequestError(f"{name} is not supported: leave it out, or set it to {values[0]!r}", name)
    if "messages" not in fields:
        raise RequestError("messages is missing: expected a list with at least one user message", "messages")
    if fields.get("model", MODEL) != MODEL:
        name = visible(str(fields["model"]), 60)
        raise RequestError(
            f"there is no model {name!r}; this server has {MODEL!r}", "model", 404, "model_not_found"
        )
    turns, media, placed = _read_messages(fields["messages"])
    *history, (last, _) = turns
    stream, options = _flag(fields, "stream"), fields.get("stream_options", {})
    if not isinstance(options, dict) or (options and not stream) or set(options) - {"include_usage"}:
        raise RequestError("stream_options takes include_usage, beside stream: true", "stream_options")
    question = Question(
        last,
        tuple(history),
        experts=_experts(fields),
        max_new_tokens=_most_tokens(fields, most_tokens),
        temperature=_number(fields, "temperature", TEMPERATURE, 0.0),
        top_p=_number(fields, "top_p", TOP_P, 1.0),
        stop=_stops(fields),
        seed=None if "seed" not in fields else int(_number(fields, "seed", SEED_RANGE, 0)),
    )
    return ChatRequest(question, media, stream, _flag(options, "include_usage"), placed)


@contextmanager
def media_files(media: Sequence[Medium]) -> Iterator[list[Media]]:
    """The media as temporary files, which are read exactly as `octavius predict` reads files.

    Raises:
        ValueError: from the block, with the place in the request instead of the temporary path.
    """
    files: list[Path] = []
    try:
        for medium in media:
            with NamedTemporaryFile(prefix="octavius-", delete=False) as file:
                files.append(Path(file.name))
                file.write(medium.content)
        yield [Media(path=path, region=medium.region) for path, medium in zip(files, media, strict=True)]
    except ValueError as error:
        text = str(error)
        for path, medium in zip(files, media, strict=False):
            text = text.replace(str(path), medium.param).replace(path.name, medium.param)
        raise ValueError(text) from None
    finally:
        for path in files:
            path.unlink(missing_ok=True)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        text = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(f"the body is not valid JSON in UTF-8: {text[:200]}") from None
    if not isinstance(fields, dict):
        raise RequestError(f"the body should be a JSON object, found {_kind(fields)}")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


Part = str | tuple[str, Medium]
"""A text of a message, or a medium with its modality."""


def _read_messages(
    messages: Any,
) -> tuple[list[tuple[str, str]], dict[str, Medium], tuple[tuple[str, Medium], ...]]:
    """The turns (question, answer), the last without an answer, and the media as in `ChatRequest`."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages should be a list with at least one user message", "messages")
    said: list[list[Part]] = []
    for index, message in enumerate(messages):
        where, role = f"messages[{index}]", ("user", "assistant")[index % 2]
        if not isinstance(message, dict):
            raise RequestError(f"{where} should be an object with role and content", where)
        found = message.get("role")
        if found in ("system", "developer"):
            raise RequestError(
                f"{where}: this model was tuned with a fixed system prompt; leave {found} messages out", where
            )
        if found != role:
            raise RequestError(
                f"{where}.role should be {role!r}: user and assistant take turns, the user first; found "
                f"{visible(repr(found), 40)}",
                f"{where}.role",
            )
        if unknown := sorted(set(message) - {"role", "content", "name", *_EMPTY_OF_ASSISTANT}):
            raise RequestError(
                f"{where} has the field {visible(unknown[0], 40)!r}, which is not supported", where
            )
        said.append(_read_content(message.get("content"), f"{where}.content", role == "user"))
    if len(messages) % 2 == 0:
        raise RequestError("the last message should be the user's", "messages")
    media = tuple(part for parts in said for part in parts if not isinstance(part, str))
    if len(media) > MOST_MEDIA:
        raise RequestError(f"messages have {len(media)} media, more than {MOST_MEDIA}", "messages")
    modalities = [modality for modality, _ in media]
    several = {name for name in modalities if modalities.count(name) > 1}
    texts = [
        _text(parts, f"messages[{index}].content", modalities if several else ())
        for index, parts in enumerate(said)
    ]
    turns = list(zip(texts[::2], [*texts[1::2], ""], strict=True))
    return turns, {} if several else dict(media), media if several else ()


def _text(parts: Sequence[Part], where: str, placed: Sequence[str]) -> str:
    """The text of a message, with a placeholder for each medium if media are placed in the texts.

    Raises:
        RequestError: a text holds such a placeholder itself.
    """
    written, before = "", ""
    for part in parts:
        if not isinstance(part, str):
            written, before = written + (placeholder(part[0]) if placed else ""), "" if placed else before
            continue
        if mark := next((mark for mark in map(placeholder, placed) if mark in part), None):
            raise RequestError(
                f"{where} holds {mark}, which stands for a medium where there are several; leave it out",
                where,
            )
        written, before = f"{written}{before}{part}", "\n"
    return written


_EMPTY_OF_ASSISTANT = {"refusal", "annotations", "audio", "function_call", "tool_calls"}
"""Fields of a reply of OpenAI's client that is sent back as a message; they are null there."""


def _read_content(content: Any, where: str, asks: bool) -> list[Part]:
    """The texts and media of a message, in order."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise RequestError(f"{where} should be a text or a list of parts", where)
    read: list[Part] = []
    for index, part in enumerate(parts):
        location = where if isinstance(content, str) else f"{where}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            read.append(_clean(part["text"], location))
        elif isinstance(kind, str) and kind in PARTS and asks:
            read.append((PARTS[kind], _read_medium(part, kind, f"{location}.{kind}")))
        else:
            known = ", ".join(("text", *PARTS) if asks else ("text",))
            raise RequestError(
                f"{location}.type should be one of {known}, with its content", f"{location}.type"
            )
    if not any(part.strip() for part in read if isinstance(part, str)):
        raise RequestError(f"{where} has no text; ask something", where)
    return read


def _clean(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{where} holds half of a surrogate pair, which is no character", where) from None
    return text


def _read_medium(part: Mapping[str, Any], kind: str, where: str) -> Medium:
    value = part.get(kind)
    if not isinstance(value, dict) or not isinstance(url := value.get("url"), str):
        raise RequestError(f"{where} should be an object with url", where)
    head, comma, text = url.partition(",")
    if not (head[:5].lower() == "data:" and comma and head.lower().endswith(";base64")):
        raise RequestError(
            f"{where}.url should be a data URL, data:image/png;base64,... or the like; files and addresses are not "
            f"read, found {visible(url, 40)!r}",
            f"{where}.url",
        )
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{where}.url is not valid base64: {error}", f"{where}.url") from None
    if not content:
        raise RequestError(f"{where}.url is empty", f"{where}.url")
    known = {"url", "box"} if kind == "cloud_url" else {"url", "detail"}
    if unknown := sorted(set(value) - known):
        raise RequestError(f"{where} has no field {visible(unknown[0], 40)!r}", where)
    region = _region(value["box"], f"{where}.box") if kind == "cloud_url" and "box" in value else None
    return Medium(content, where, region)


def _region(box: Any, where: str) -> Region:
    """The object of a cloud: `all`, or centre and size of its box in metres."""
    if box == "all":
        return Region("all", None)
    numbers = isinstance(box, list) and len(box) == PLAIN and all(_is_number(value) for value in box)
    said = box_error([float(value) for value in box]) if numbers else f"found {visible(repr(box), 60)}"
    if said:
        raise RequestError(
            f'{where} should be "all" or [x, y, z, dx, dy, dz], centre and size in metres: {said}', where
        )
    x, y, z, dx, dy, dz = map(float, box)
    return Region(str(box), (x, y, z, dx, dy, dz))


def _experts(fields: Mapping[str, Any]) -> tuple[float, ...] | None:
    if "experts" not in fields:
        return None
    weights = fields["experts"]
    if not isinstance(weights, list) or not weights or not all(_is_number(value) for value in weights):
        raise RequestError("experts should be a list of weights, one for each expert", "experts")
    for value in weights:
        _in_range("experts", FRACTION, value)
    return tuple(map(float, weights))


def _most_tokens(fields: Mapping[str, Any], most: int) -> int:
    if {"max_tokens", "max_completion_tokens"} <= set(fields):
        raise RequestError("give max_completion_tokens or max_tokens, not both", "max_tokens")
    name = "max_tokens" if "max_tokens" in fields else "max_completion_tokens"
    return int(_number(fields, name, Range(1, most, integer=True), min(Question.max_new_tokens, most)))


def _stops(fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = fields.get("stop", [])
    stops = [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not fits or not all(isinstance(text, str) and 0 < len(text) <= LONGEST_STOP for text in stops):
        raise RequestError(
            f"stop should be a text of 1 to {LONGEST_STOP} characters, or up to {MOST_STOPS} of them", "stop"
        )
    return tuple(stops)


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise RequestError(f"{name} should be true or false, found {_kind(value)}", name)
    return value


def _number(fields: Mapping[str, Any], name: str, allowed: Range, default: float) -> float:
    value = fields.get(name, default)
    _in_range(name, allowed, value)
    return float(value) if isinstance(default, float) else value


def _in_range(name: str, allowed: Range, value: Any) -> None:
    try:
        allowed.check(**{name: value if _is_number(value) else math.nan})
    except ValueError:
        raise RequestError(f"{name} should be {allowed}, found {visible(repr(value), 40)}", name) from None


def _is_number(value: Any) -> bool:
    """Whether a value is a number that fits into a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _kind(value: Any) -> str:
    return type(value).__name__
