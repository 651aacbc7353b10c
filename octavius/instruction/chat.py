"""Derives a `Template` from a tokenizer's own chat template.

The chat template is rendered with two markers in place of question and answer, and split at them. A template
that contains the current date is fixed at the moment of splitting; a checkpoint has to store it.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from octavius.instruction.chat_rendering import Rendering, render
from octavius.instruction.prompt import Template
from octavius.instruction.tokenizer import Tokenizer

ASKED, ANSWERED = "question@@", "answer@@"
"""Markers in place of a question and an answer."""

LATER = timedelta(days=400, hours=13, minutes=7, seconds=11)
"""A shift that changes every part of a date and time."""

WRITE_ONE = "write a `template` instead"


def chat_template(tokenizer: Tokenizer, moment: datetime | None = None) -> Template:
    """The fixed text that the tokenizer's chat template puts around questions and answers.

    The beginning-of-sequence token is removed, as every prompt starts with it anyway. A question becomes a
    user message with media in front; the text that opens an answer is that of `add_generation_prompt`, with
    thinking disabled if the template supports that.

    Args:
        tokenizer: a tokenizer with a chat template.
        moment: date and time for templates that ask for it; default: current time.

    Raises:
        ValueError: there is no chat template, it cannot be rendered, drops or duplicates messages, changes
            their order, has no generation prompt for an answer, or ends an answer with another token than the
            tokenizer's eos token.
    """
    backend = tokenizer.backend
    location = backend.name_or_path
    moment = moment or datetime.now()
    [(opened, answered)] = _rendered(tokenizer, moment)
    for text, said in ((opened, (ASKED, 1)), (answered, (ANSWERED, 1)), (answered, (ASKED, 2))):
        _check_occurrences(location, text, *said)
    first_header, generation_prompt = opened.split(ASKED)
    before_answer, after_answer = answered.split(ANSWERED)
    if ASKED not in before_answer or ASKED not in after_answer:
        raise ValueError(f"the chat template of {location!r} changes the order of what is said; {WRITE_ONE}")
    first_header = first_header.removeprefix(backend.bos_token or "")
    answer_header = before_answer.partition(ASKED)[2]
    if answer_header.startswith(generation_prompt) and answer_header[len(generation_prompt) :].strip():
        raise ValueError(
            f"the chat template of {location!r} has no place for an answer: it writes {answer_header!r} before an "
            f"answer that is there, but only {generation_prompt!r} where one is to be generated "
            f"(add_generation_prompt); {WRITE_ONE}"
        )
    between = after_answer[: after_answer.index(ASKED)]
    if not between.lstrip().startswith(str(backend.eos_token)):
        raise ValueError(
            f"the chat template of {location!r} ends an answer with {between[:20]!r}, but its eos token, at which "
            f"generation stops, is {backend.eos_token!r}; set eos_token in its tokenizer_config.json"
        )
    # The user header stands before the first question and before each later one; it belongs to `human`.
    human = _shared_end(tokenizer, first_header, between)
    return Template(
        system=first_header.removesuffix(human),
        human=human,
        assistant=generation_prompt,
        between=between.removesuffix(human),
        space="",
    )


def depends_on_moment(tokenizer: Tokenizer) -> bool:
    """Whether the chat template renders differently at another time, or at random."""
    moment = datetime.now()
    first, second = _rendered(tokenizer, moment, moment + LATER)
    return first != second


def template_of(values: Any, source: str) -> Template:
    """Restores a template from the plain values in a checkpoint.

    Raises:
        ValueError: they are not those of a template.
    """
    known = {field.name: field.type for field in fields(Template)}
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        raise ValueError(f"{source} holds no valid template fields where they should be: {values!r:.80}")
    texts = ("system", "human", "assistant", "between", "opening", "end", "space")
    if wrong := [key for key in texts if not isinstance(values.get(key, ""), str)]:
        raise ValueError(
            f"{source} holds {values[wrong[0]]!r:.40} as {wrong[0]} of its template, expected text"
        )
    return Template(**values)


def _rendered(tokenizer: Tokenizer, *moments: datetime) -> list[tuple[str, str]]:
    """Texts of an open and of an answered dialogue, for each moment."""
    backend = tokenizer.backend
    if not getattr(backend, "chat_template", None):
        raise ValueError(
            f"the tokenizer {backend.name_or_path!r} has no chat template; leave `template` out for the Human / "
            "Assistant dialogue, or write its words there"
        )
    asked, answered = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}
    dialogues = [([asked], True), ([asked, answered, asked], False)]
    texts = render(
        backend, [Rendering(messages, generate, at) for at in moments for messages, generate in dialogues]
    )
    return list(zip(texts[::2], texts[1::2], strict=True))


def _check_occurrences(location: str, text: str, said: str, times: int) -> None:
    """Refuses a template that drops or duplicates a message."""
    found = text.count(said)
    if found != times:
        what = "a question" if said == ASKED else "an answer"
        raise ValueError(
            f"the chat template of {location!r} drops or duplicates messages: {what} occurs {found} times in its "
            f"text, expected {times}; {WRITE_ONE}"
        )


def _shared_end(tokenizer: Tokenizer, before: str, after: str) -> str:
    """The longest common suffix at which both texts can be split without changing their tokens."""

    def cut(text: str, end: str) -> bool:
        start = text.removesuffix(end)
        pieces = [piece for part in (start, end) if part for piece in tokenizer.encode(part, special=True)]
        return pieces == tokenizer.encode(text, special=True)

    for length in range(min(len(before), len(after)), 0, -1):
        end = before[-length:]
        if after.endswith(end) and cut(before, end) and cut(after, end):
            return end
    return ""
