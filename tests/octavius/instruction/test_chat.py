"""Chat templates of known families come in; prompts that follow them have the very tokens that the template gives."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from octavius.instruction.chat import chat_template
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.sample import References, Sample
from octavius.instruction.tokenizer import Tokenizer

FOLDER = Path(__file__).resolve().parents[3] / "checkpoints" / "miniature" / "language"

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As of Qwen2.5 and SmolLM2."""

HEADERS = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message.role }}<|end|>\n\n"
    "{{ message.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
"""As of LLaMA 3."""

FAMILIES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "headers": (HEADERS, ["<|start|>", "<|end|>", "<|eot|>"], "<|eot|>"),
}


def backend_of(family: str) -> PreTrainedTokenizerBase:
    template, marks, eos = FAMILIES[family]
    backend = AutoTokenizer.from_pretrained(FOLDER)
    backend.add_special_tokens({"additional_special_tokens": marks, "eos_token": eos})
    backend.chat_template = template
    return backend


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
    with pytest.raises(ValueError, match="does not repeat"):
        chat_template(Tokenizer(backend))
