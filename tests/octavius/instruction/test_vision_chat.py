"""The text of a chat template about an image: against the template itself, and templates that cannot be used."""

import pytest

from octavius.instruction.vision_chat import chat_text
from tests.tiny_vision import CHATML, CONTENT, GEMMA, LLAVA, SMOL, tokenizer_of

IMAGES = {
    SMOL: "<image>",
    LLAVA: "<image>",
    GEMMA: "<start_of_image>",
    CHATML.replace("IMAGE", "'<image>'"): "<image>",
}


@pytest.mark.parametrize("template", IMAGES)
@pytest.mark.parametrize("image", [True, False])
def test_it_writes_what_the_template_writes(template: str, image: bool) -> None:
    backend = tokenizer_of({"image_token": "<image>"}, ("<end_of_utterance>", "<|im_end|>", "<end_of_turn>"))
    chat = chat_text(backend, template, IMAGES[template])
    backend.chat_template = template
    turns = [("user", "What is this?"), ("assistant", "A ball."), ("user", "Which colour?")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    if image:
        messages[0]["content"].insert(0, {"type": "image"})  # type: ignore[attr-defined]
    expected = backend.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    first = ["", "What is this?"] if image else ["What is this?"]
    assert chat.question([first, ["Which colour?"]], ["A ball."]) == expected
    alone = backend.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert chat.question([first]) == alone


@pytest.mark.parametrize(
    ("template", "end"),
    [(SMOL, "<end_of_utterance>"), (LLAVA, "</s>"), (CHATML.replace("IMAGE", "'<image>'"), "<|im_end|>")],
)
def test_an_answer_ends_by_the_token_of_the_template_or_else_by_eos(template: str, end: str) -> None:
    backend = tokenizer_of({"image_token": "<image>"}, ("<end_of_utterance>", "<|im_end|>", "<|im_start|>"))
    assert chat_text(backend, template, "<image>").end == end


BRACKETS = (
    "{% for message in messages %}{{ 'Bot:[x]' if message['role'] == 'assistant' else 'User:' }}"
    + CONTENT.replace("IMAGE", "'<image>'")
    + "{% endfor %}{% if add_generation_prompt %}{{ 'Bot:' }}{% endif %}"
)
"""It writes more before an answer that is there than before one that is to be generated."""


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}", "image placeholder '<image>'"),
        (BRACKETS, "no place for an answer"),
        ("{{ messages[0]['content'].upper() }}", "it raised"),
    ],
)
def test_templates_that_lose_something_are_refused(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        chat_text(tokenizer_of({"image_token": "<image>"}), template, "<image>")
