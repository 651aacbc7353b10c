"""The fixed words of a dialogue as a tokenizer's own chat template writes them.

The template is rendered around two marks, which stand for what is said, and cut there. Words that depend on the
moment (a date) are those of the moment at which this is done; whoever needs them again has to keep them.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from octavius.instruction.chat_rendering import Rendering, render
from octavius.instruction.prompt import Template
from octavius.instruction.tokenizer import Tokenizer

ASKED, ANSWERED = "@@question@@", "@@answer@@"
"""Stand for what is said while the template is looked at."""

LATER = timedelta(days=400, hours=13, minutes=7, seconds=11)
"""Changes every part of a date and a time."""

WRITE_ONE = "write a `template` instead"


def chat_template(tokenizer: Tokenizer, moment: datetime | None = None) -> Template:
    """What the tokenizer's own chat template writes around questions and answers.

    The beginning mark is left out, since every prompt has it already. A question is asked as a user's message, media
    in front of it; the words where the answer begins are those that the template writes for generation, without a
    train of thought where it knows how to leave that out.

    Args:
        tokenizer: with a chat template.
        moment: what a template gets that asks for date or time; None for now.

    Raises:
        ValueError: there is no chat template, it cannot be rendered, drops or repeats what is said, has no place for
            an answer, or ends an answer by another mark than the tokenizer's eos token.
    """
    backend = tokenizer.backend
    place = backend.name_or_path
    moment = moment or datetime.now()
    [(opened, told)] = _rendered(tokenizer, moment)
    for text, said in ((opened, (ASKED, 1)), (told, (ANSWERED, 1)), (told, (ASKED, 2))):
        _check_repeats(place, text, *said)
    start, begin = opened.split(ASKED)
    past, rest = told.split(ANSWERED)
    if ASKED not in rest or ASKED not in past:
        raise ValueError(f"the chat template of {place!r} changes the order of what is said; {WRITE_ONE}")
    before, shown = start.removeprefix(backend.bos_token or ""), past.partition(ASKED)[2]
    if shown.startswith(begin) and shown[len(begin) :].strip():
        raise ValueError(
            f"the chat template of {place!r} has no place for an answer: it writes {shown!r} before an answer that "
            f"is there, but only {begin!r} where one is to be generated (add_generation_prompt); {WRITE_ONE}"
        )
    after = rest[: rest.index(ASKED)]
    if not after.lstrip().startswith(str(backend.eos_token)):
        raise ValueError(
            f"the chat template of {place!r} ends an answer with {after[:20]!r}, but its eos token, at which "
            f"generation stops, is {backend.eos_token!r}; set eos_token in its tokenizer_config.json"
        )
    human = _shared_end(tokenizer, before, after)
    return Template(
        system=before.removesuffix(human),
        human=human,
        assistant=begin,
        between=after.removesuffix(human),
        space="",
    )


def depends_on_moment(tokenizer: Tokenizer) -> bool:
    """Whether the chat template writes other words at another time, or by chance."""
    moment = datetime.now()
    first, second = _rendered(tokenizer, moment, moment + LATER)
    return first != second


def template_of(words: Any, source: str) -> Template:
    """A template from the plain values in which a checkpoint keeps it.

    Raises:
        ValueError: they are none.
    """
    known = {field.name: field.type for field in fields(Template)}
    if not isinstance(words, Mapping) or not set(words) <= set(known):
        raise ValueError(f"{source} keeps no words of a template where they should be: {words!r:.80}")
    texts = ("system", "human", "assistant", "between", "opening", "end", "space")
    if wrong := [key for key in texts if not isinstance(words.get(key, ""), str)]:
        raise ValueError(
            f"{source} keeps {words[wrong[0]]!r:.40} as {wrong[0]} of its template, expected text"
        )
    return Template(**words)


def _rendered(tokenizer: Tokenizer, *moments: datetime) -> list[tuple[str, str]]:
    """The texts of an open and of an answered question at each moment."""
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


def _check_repeats(place: str, text: str, said: str, times: int) -> None:
    """Refuses a template that drops or doubles what is said."""
    found = text.count(said)
    if found != times:
        what = "a question" if said == ASKED else "an answer"
        raise ValueError(
            f"the chat template of {place!r} does not repeat what is said: {what} stands {found} times in its text, "
            f"expected {times}; {WRITE_ONE}"
        )


def _shared_end(tokenizer: Tokenizer, before: str, after: str) -> str:
    """The longest common end before which both texts can be cut without their tokens changing."""

    def cut(text: str, end: str) -> bool:
        start = text.removesuffix(end)
        pieces = [piece for part in (start, end) if part for piece in tokenizer.encode(part, special=True)]
        return pieces == tokenizer.encode(text, special=True)

    for length in range(min(len(before), len(after)), 0, -1):
        end = before[-length:]
        if after.endswith(end) and cut(before, end) and cut(after, end):
            return end
    return ""
