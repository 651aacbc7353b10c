"""Dates in a chat template are those of the day on which training began, also after resuming and loading."""

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from octavius.decoder.decoder import Decoder
from octavius.instruction import chat
from octavius.instruction.prompt import Template
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe

DATED = (
    "Today is {{ strftime_now('%Y-%m-%d') }}."
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}"
    "{% if message.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

Make = Callable[..., OctaviusModule]


@pytest.fixture
def make_on(decoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the same module, whose chat template has the date, on a day of July 2026."""
    folder = Path(shutil.copytree(decoder_folder, tmp_path / "decoder"))
    backend = AutoTokenizer.from_pretrained(folder)
    backend.chat_template = DATED
    backend.save_pretrained(folder)

    def make(day: int, **options: Any) -> OctaviusModule:
        clock = type("Clock", (), {"now": staticmethod(lambda: datetime(2026, 7, day))})
        monkeypatch.setattr(chat, "datetime", clock)
        torch.manual_seed(0)
        return OctaviusModule(
            Decoder(str(folder)), {}, lora_moe(experts=2, rank=2, top_k=1), **{"template": "chat", **options}
        )

    return make


def saved(module: OctaviusModule, path: Path) -> dict[str, Any]:
    """What a checkpoint of the module holds, read again as ours are."""
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def test_a_checkpoint_brings_the_words_of_its_training(make_on: Make, tmp_path: Path) -> None:
    first = make_on(9)
    assert first.processor.prompts.template.system == "Today is 2026-07-09."
    later = make_on(10)
    assert later.processor.prompts.template.system == "Today is 2026-07-10."
    later.on_load_checkpoint(saved(first, tmp_path / "x.ckpt"))
    assert later.processor.prompts.template == first.processor.prompts.template
    assert later.processor.prompts.generation_template == first.processor.prompts.template
    third = make_on(11)
    third.on_load_checkpoint(saved(later, tmp_path / "y.ckpt"))
    assert third.processor.prompts.generation_template == first.processor.prompts.template


def test_words_that_were_set_by_hand_stay(make_on: Make, tmp_path: Path) -> None:
    checkpoint = saved(make_on(9), tmp_path / "x.ckpt")
    mine = make_on(10, template=Template("Mine."))
    mine.on_load_checkpoint(checkpoint)
    assert mine.processor.prompts.template == Template("Mine.")
    asking = make_on(10, test_template=Template("Mine."))
    asking.on_load_checkpoint(checkpoint)
    assert asking.processor.prompts.generation_template == Template("Mine.")
    assert asking.processor.prompts.template.system == "Today is 2026-07-09."


def test_a_checkpoint_from_before_says_that_the_words_may_differ(make_on: Make, tmp_path: Path) -> None:
    checkpoint = saved(make_on(9), tmp_path / "x.ckpt")
    del checkpoint["template"]
    with pytest.warns(UserWarning, match="writes the date or the time, and this checkpoint does not keep"):
        make_on(10).on_load_checkpoint(checkpoint)


def test_words_that_are_none_are_refused(make_on: Make, tmp_path: Path) -> None:
    checkpoint = saved(make_on(9), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="this checkpoint holds no valid template fields"):
        make_on(9).on_load_checkpoint({**checkpoint, "template": {"sytem": 1}})
