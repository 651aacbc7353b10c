"""Prompts for known families of chat templates have exactly the tokens of the template."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import pytest

from octavius.instruction.chat import chat_template, depends_on_moment, template_of
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.sample import References, Sample
from octavius.instruction.tokenizer import Tokenizer
from tests.octavius.instruction.chat_templates import (
    CHATML,
    FAMILIES,
    backend_of,
    template_text,
)


def asked(history: tuple[tuple[str, str], ...] = ()) -> Sample:
    return Sample("a", "captioning", "none", {}, "", References(("a",)), history)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("history", [(), (("What is red?", "The ball."), ("And blue?", "The box."))])
def test_prompts_have_the_tokens_of_the_chat_template(
    family: str, history: tuple[tuple[str, str], ...]
) -> None:
    backend = backend_of(family)
    tokenizer = Tokenizer(backend)
    builder = PromptBuilder(tokenizer, {}, chat_template(tokenizer))
    turns = [*history, ("Describe it.", "A red ball.")]
    messages = [
        {"role": role, "content": text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    opened = backend.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    told = backend.apply_chat_template(messages, tokenize=False).rstrip("\n")
    mark = [] if family == "headers" else [tokenizer.bos_id]
    for answer, text in ((None, opened), ("A red ball.", told)):
        ids = builder.build(asked(history), "Describe it.", answer).ids
        assert ids == mark + tokenizer.encode(text, special=True)
    assert ids[-1] == tokenizer.eos_id


def test_media_stand_in_front_of_the_question() -> None:
    tokenizer = Tokenizer(backend_of("chatml"))
    template = chat_template(tokenizer)
    assert template.system + template.human == (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\n"
    )
    assert template.assistant == "<|im_end|>\n<|im_start|>assistant\n"
    assert template.space == ""


def test_without_a_chat_template_there_is_an_error() -> None:
    backend = backend_of("chatml")
    backend.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        chat_template(Tokenizer(backend))


def test_an_answer_must_end_with_the_eos_token() -> None:
    backend = backend_of("chatml")
    backend.eos_token = "<|im_start|>"
    with pytest.raises(ValueError, match=r"ends an answer with '<\|im_end\|>"):
        chat_template(Tokenizer(backend))


def test_a_template_that_forgets_what_is_said_is_refused() -> None:
    backend = backend_of("chatml")
    backend.chat_template = "hello"
    with pytest.raises(ValueError, match="drops or duplicates messages: a question occurs 0 times"):
        chat_template(Tokenizer(backend))


DATED = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y, %H:%M:%S') + '<|im_end|>\n' }}" + CHATML


def test_words_with_a_date_are_those_of_the_given_moment() -> None:
    tokenizer = template_text(DATED)
    words = chat_template(tokenizer, datetime(2026, 7, 9, 8, 5, 1))
    assert words.system.startswith("<|im_start|>system\nToday is 09 July 2026, 08:05:01<|im_end|>\n")
    assert depends_on_moment(tokenizer)
    assert not depends_on_moment(template_text(CHATML))
    assert depends_on_moment(template_text("{{ range(99999) | random }}" + CHATML))
    assert template_of(asdict(words), "x") == words


@pytest.mark.parametrize("words", [3, [], {"systen": "a"}, {"system": 3}, {"assistant": ["a"]}])
def test_kept_words_that_are_none_are_refused(words: Any) -> None:
    with pytest.raises(ValueError, match=r"last\.ckpt holds "):
        template_of(words, "last.ckpt")
