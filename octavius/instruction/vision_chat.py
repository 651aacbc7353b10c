"""The text that the chat template of a vision-language model writes around questions, answers and images.

The template is rendered a few times with markers in place of question and answer, and split at them. Samples are
then put together from these texts, so that no template runs while data are loaded.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from octavius.instruction.chat import ANSWERED, ASKED
from octavius.instruction.chat_rendering import Rendering, render

MOMENT = datetime(2025, 1, 1, 12)
"""Date and time for templates that write them: fixed, so that training and use have the same prompts."""


@dataclass(frozen=True)
class Opening:
    """The text before a question.

    Attributes:
        text: before a question that begins with words.
        before: before the images with which a question begins.
        after: between these and the words.
    """

    text: str
    before: str
    after: str


@dataclass(frozen=True)
class ChatText:
    """The fixed text of a dialogue, in whose questions images may stand.

    Attributes:
        first: the text before the first question.
        later: the text after an earlier answer, before the next question; it begins with the end of the answer.
        image: text of an image at the beginning of a question.
        inline: text of an image inside a question.
        trimmed: whether the texts around an image inside a question lose the space at their ends.
        assistant: text after a question, behind which generation starts.
        before_answer: text between `assistant` and an answer: empty or white space.
        end: the token that ends an answer.
        one_image: why a dialogue can have one image at the beginning of its first question alone; empty if it can
            have others.
    """

    first: Opening
    later: Opening
    image: str
    inline: str
    trimmed: bool
    assistant: str
    before_answer: str
    end: str
    one_image: str = ""

    def question(self, turns: Sequence[Sequence[str]], answers: Sequence[str] = ()) -> str:
        """The text of a dialogue up to the answer that is to be generated.

        Args:
            turns: the questions, oldest first, each as the texts before, between and after its images. One that
                begins with images has empty texts before and between those.
            answers: the answers to all questions but the last.

        Raises:
            ValueError: there are more images, or in other places, than the chat can have.
        """
        images = sum(len(texts) - 1 for texts in turns)
        if self.one_image and images and not (images == 1 and len(turns[0]) == 2 and not turns[0][0]):
            raise ValueError(
                f"this model takes one image, at the beginning of the first question: {self.one_image}"
            )
        written, opening = "", self.first
        for texts, answer in zip(turns, [*answers, None], strict=True):
            lead = next(index for index, text in enumerate(texts) if text or index == len(texts) - 1)
            written += opening.before + self.image * lead + opening.after if lead else opening.text
            said = [text.strip() for text in texts] if self.trimmed else texts
            written += self.inline.join(said[lead:]) + self.assistant
            if answer is not None:
                written += self.before_answer + answer
            opening = self.later
        return written


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
    opened, turned = _said(ASKED, images=1), [_said(ASKED, images=1), _said(ANSWERED, role="assistant")]
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
    first, image = _opening(texts[1].split(ASKED)[0], about_image)
    later = Opening(between, between, "")
    chat = ChatText(first, later, image, image.strip(), False, assistant, lead, _end_of(tokenizer, between))
    return _with_images(chat, backend, image_token)


def _with_images(chat: ChatText, backend: Any, image_token: str) -> ChatText:
    """Adds how the template writes images in other places than the beginning of the first question."""
    later = [_said(ASKED), _said(ANSWERED, role="assistant"), _said(ASKED, images=1)]
    image, end = {"type": "image"}, {"type": "text", "text": f" {ASKED}"}
    inside = {"role": "user", "content": [{"type": "text", "text": f"{ASKED} "}, image, end]}
    dialogues: list[tuple[list[dict[str, Any]], bool]] = [
        ([_said(ASKED, images=2)], True),
        (later, False),
        ([inside], True),
    ]
    try:
        texts = render(backend, [Rendering(messages, generate, MOMENT) for messages, generate in dialogues])
    except ValueError as error:
        return replace(chat, one_image=str(error))
    two = chat.first.before + chat.image * 2 + chat.first.after + ASKED + chat.assistant
    if chat.image.count(image_token) != 1 or texts[0] != two:
        return replace(chat, one_image=f"its chat template writes two images as {texts[0]!r:.200}")
    between = texts[1].partition(ANSWERED)[2].partition(ASKED)[0]
    opening, same = _opening(chat.later.text, between)
    if same != chat.image or texts[1].count(image_token) != 1:
        return replace(chat, one_image=f"its chat template writes an image later on as {between!r:.200}")
    chat = replace(chat, later=opening)
    parts = texts[2].removeprefix(chat.first.text).removesuffix(chat.assistant).split(ASKED)
    if len(parts) == 3 and parts[1].count(image_token) == 1 and not parts[0] and not parts[2]:
        kept = parts[1].startswith(" ") and parts[1].endswith(" ")
        return replace(chat, inline=parts[1][1:-1] if kept else parts[1], trimmed=not kept)
    # A template that moves images before the words: they are written as there, but in their places.
    return chat


def _opening(text: str, about_image: str) -> tuple[Opening, str]:
    """The text before a question, and that of an image, from those without and with an image."""
    before = _same(text, about_image)
    left, right = text[before:], about_image[before:]
    end = len(right) - _same(left[::-1], right[::-1])
    return Opening(text, about_image[:before], right[end:]), right[:end]


def _same(left: str, right: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = zip(left, right, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _said(text: str, role: str = "user", images: int = 0) -> dict[str, Any]:
    """A message, in the form that the templates of vision-language models take."""
    return {
        "role": role,
        "content": [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}],
    }


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
