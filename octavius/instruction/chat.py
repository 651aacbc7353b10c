"""A tokenizer with a chat template comes in, the fixed words of its dialogue go out as a `Template`."""

from typing import Any

from octavius.instruction.prompt import Template
from octavius.instruction.tokenizer import Tokenizer

ASKED, ANSWERED = "@@question@@", "@@answer@@"
"""Stand for what is said while the template is looked at."""


def chat_template(tokenizer: Tokenizer) -> Template:
    """What the tokenizer's own chat template writes around questions and answers.

    The beginning mark is left out, since every prompt has it already. A question is asked as a user's message, media
    in front of it; the words where the answer begins are those that the template writes for generation, without a
    train of thought where it knows how to leave that out.

    Raises:
        ValueError: there is no chat template, it writes no dialogue, or ends an answer by another mark than the
            tokenizer's eos token.
    """
    backend = tokenizer.backend
    place = backend.name_or_path
    if not getattr(backend, "chat_template", None):
        raise ValueError(
            f"the tokenizer {place!r} has no chat template; leave `template` out for the Human / Assistant "
            "dialogue, or write its words there"
        )
    asked, answered = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}
    opened = _written(backend, [asked], generate=True).split(ASKED)
    told = _written(backend, [asked, answered, asked], generate=False).split(ANSWERED)
    if len(opened) != 2 or len(told) != 2 or ASKED not in told[1]:
        raise ValueError(
            f"the chat template of {place!r} does not repeat what is said; write a `template` instead"
        )
    before = opened[0].removeprefix(backend.bos_token or "")
    after = told[1][: told[1].index(ASKED)]
    if not after.lstrip().startswith(str(backend.eos_token)):
        raise ValueError(
            f"the chat template of {place!r} ends an answer with {after[:20]!r}, but its eos token, at which "
            f"generation stops, is {backend.eos_token!r}; set eos_token in its tokenizer_config.json"
        )
    human = _shared_end(tokenizer, before, after)
    return Template(
        system=before.removesuffix(human),
        human=human,
        assistant=opened[1],
        between=after.removesuffix(human),
        space="",
    )


def _written(backend: Any, messages: list[dict[str, str]], generate: bool) -> str:
    return str(
        backend.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generate, enable_thinking=False
        )
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
