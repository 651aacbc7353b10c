"""The text that the chat template of a vision-language model writes around questions, answers and the image.

The template is rendered a few times with markers in place of question and answer, and split at them. Samples are
then put together from these texts, so that no template runs while data are loaded.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from octavius.instruction.chat import ANSWERED, ASKED
from octavius.instruction.chat_rendering import Rendering, render

MOMENT = datetime(2025, 1, 1, 12)
"""Date and time for templates that write them: fixed, so that training and use have the same prompts."""


@dataclass(frozen=True)
class ChatText:
    """The fixed text of a dialogue, whose first question may be about an image.

    Attributes:
        about_image: text before the first question if there is an image; it holds the image placeholder.
        text_only: text before the first question if there is none.
        assistant: text after a question, behind which generation starts.
        before_answer: text between `assistant` and an answer: empty or white space.
        between: text after an earlier answer, before the next question; it begins with the end of the answer.
        end: the token that ends an answer.
    """

    about_image: str
    text_only: str
    assistant: str
    before_answer: str
    between: str
    end: str

    def question(self, asked: str, history: Sequence[tuple[str, str]], image: bool) -> str:
        """The text of a dialogue up to the answer that is to be generated.

        Args:
            asked: the last question.
            history: earlier (question, answer) turns, oldest first.
            image: whether the dialogue is about an image.
        """
        turns = [
            f"{question}{self.assistant}{self.before_answer}{answer}{self.between}"
            for question, answer in history
        ]
        opening = self.about_image if image else self.text_only
        return f"{opening}{''.join(turns)}{asked}{self.assistant}"


def chat_text(tokenizer: Any, template: str, image_token: str) -> ChatText:
    """Derives the fixed text of a dialogue from a chat template.

    Args:
        tokenizer: tokenizer of transformers, whose special tokens the template may write.
        template: the template, in Jinja.
        image_token: the placeholder of an image.

    Raises:
        ValueError: it cannot be rendered, loses a question, an answer or the image, or answers have no end.
    """
    backend = copy(tokenizer)
    backend.chat_template = template
    named = f"the chat template of {tokenizer.name_or_path!r}"
    opened, turned = _said(ASKED, image=True), [_said(ASKED, image=True), _said(ANSWERED, role="assistant")]
    dialogues: list[tuple[list[dict[str, Any]], bool]] = [
        ([opened], True),
        ([_said(ASKED)], True),
        ([*turned, _said(ASKED)], False),
    ]
    texts = render(backend, [Rendering(messages, generate, MOMENT) for messages, generate in dialogues])
    for text, counts in zip(texts, ((1, 0, 1), (1, 0, 0), (2, 1, 1)), strict=True):
        if tuple(text.count(part) for part in (ASKED, ANSWERED, image_token)) != counts:
            raise ValueError(
                f"{named} drops or repeats a question, an answer or the image placeholder {image_token!r}: it writes "
                f"{text!r:.200}"
            )
    about_image, assistant = texts[0].split(ASKED)
    before, after = texts[2].split(ANSWERED)
    header = before.partition(ASKED)[2]
    lead = header.removeprefix(assistant) if header.startswith(assistant) else ""
    if lead.strip() or not before.startswith(about_image) or ASKED not in after:
        raise ValueError(
            f"{named} has no place for an answer: it writes {header!r:.80} before an answer that is there, but only "
            f"{assistant!r:.80} where one is to be generated (add_generation_prompt)"
        )
    between = after.partition(ASKED)[0]
    return ChatText(
        about_image, texts[1].split(ASKED)[0], assistant, lead, between, _end_of(tokenizer, between)
    )


def _said(text: str, role: str = "user", image: bool = False) -> dict[str, Any]:
    """A message, in the form that the templates of vision-language models take."""
    pictures = [{"type": "image"}] if image else []
    return {"role": role, "content": [*pictures, {"type": "text", "text": text}]}


def _end_of(tokenizer: Any, between: str) -> str:
    """The token that ends an answer: a special one that the template writes behind it, or else the eos token."""
    written = between.lstrip()
    special = {token.content for token in tokenizer.added_tokens_decoder.values()} - {tokenizer.bos_token}
    begun = [token for token in special if token.strip() and written.startswith(token)]
    if begun:
        return max(begun, key=len)
    if tokenizer.eos_token is None:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has no eos token, and its chat template ends no answer by a "
            "special one. Set eos_token in its tokenizer_config.json"
        )
    return str(tokenizer.eos_token)
