"""Chat templates that cannot be followed are refused, in bounded time."""

import pytest

from octavius.instruction import chat_rendering
from octavius.instruction.chat import chat_template
from tests.octavius.instruction.chat_templates import (
    CHATML,
    template_text,
)

BAD = {
    "{{ raise_exception('only with a system message') }}": "raised TemplateError: only with a system message",
    "{{ messages[0].content.nothing.more }}": "raised UndefinedError",
    "{% for": "raised TemplateSyntaxError",
    "{{ cycler.__init__.__globals__ }}": "raised SecurityError",
    "{{ 'a' * 10 ** 10 }}": "takes more than 1 GiB of memory",
    "{{ 'a' * 10 ** 7 }}": "renders a few words to 10,000,000 characters",
    CHATML.replace("{{ message.content }}", "{{ message.content | upper }}"): "a question occurs 0 times",
    CHATML.replace("{{ message.content }}", "{{ message.content * 2 }}"): "a question occurs 2 times",
    CHATML + "{{ messages[0].content }}": "a question occurs 2 times",
    CHATML.replace(
        "<|im_start|>{{ message.role }}\n{{ message.content }}", "{{ message.role }}"
    ): "occurs 0 times",
    CHATML.partition("{% if add")[0]: "has no place for an answer",
    "{% for message in messages | reverse %}{{ message.content }}{% endfor %}": "has no place|ends an answer|order",
}


@pytest.mark.parametrize("text", BAD)
def test_a_template_that_cannot_be_followed_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=BAD[text]) as caught:
        chat_template(template_text(text))
    assert "write a `template` instead" in str(caught.value) or "eos token" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
    ],
)
def test_a_template_without_an_end_is_ended(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_rendering, "SECONDS", 1)
    with pytest.raises(ValueError, match="was not rendered within 1 s"):
        chat_template(template_text(text))
