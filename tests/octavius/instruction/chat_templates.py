"""Chat templates of known families, on the tokenizer of the miniature."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

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


def template_text(text: str) -> Tokenizer:
    backend = backend_of("chatml")
    backend.chat_template = text
    return Tokenizer(backend)
