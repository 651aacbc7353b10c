"""A vision-language model as the page asks it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from octavius.cli.predict import ask
from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.demo.asking import Asked, Turn, earlier
from octavius.instruction.sample import Media
from octavius.serve.engine import Engine
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe
from tests.tiny_vision import write


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> OctaviusModule:
    """A tiny model with two experts that change its answers."""
    folder = write("smolvlm", tmp_path_factory.mktemp("smolvlm") / "model")
    lora = lora_moe(experts=2, rank=2, dropout=0.0)
    module = OctaviusModule(VisionLanguageDecoder(str(folder)), {}, lora)
    torch.manual_seed(1)
    for name, part in module.model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(part, std=0.3)
    return module.eval()


@contextmanager
def asked_by(module: OctaviusModule) -> Iterator[Asked]:
    """The model as the page asks it, in a thread of its own."""
    with Engine(module, batch_size=2) as engine:
        yield Asked("tiny", engine, 5)


@pytest.fixture
def picture(tmp_path: Path) -> Media:
    """An image file, as the page has after an upload."""
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return Media(path=tmp_path / "a.png")


def last(asked: Asked, turn: Turn, **options: Any) -> Turn:
    """The turn with its whole answer."""
    return [*asked.answer(turn, **options)][-1]


def test_it_answers_as_predict_does(module: OctaviusModule, picture: Media) -> None:
    media: list[dict[str, Media]] = [{"image": picture}, {}]
    expected = [ask(module, "What is this?", one, 5) for one in media]
    with asked_by(module) as asked:
        assert asked.modalities == ("image",)
        assert asked.experts == 2
        found = [last(asked, Turn("What is this?", one)).answer for one in media]
    for answer, (text, weights) in zip(found, expected, strict=True):
        assert answer.finish is not None
        assert answer.text == text
        assert answer.weights == pytest.approx(weights, abs=1e-5)


def test_experts_are_forced_and_turns_remembered(module: OctaviusModule, picture: Media) -> None:
    media = {"image": picture}
    with asked_by(module) as asked:
        for weights in ([1.0, 0.0], [0.0, 1.0]):
            assert last(asked, Turn("What is this?", media), weights=weights).answer.weights == tuple(weights)
        first = last(asked, Turn("What is this?", media))
        history = earlier([first], media)
        assert history == [("What is this?", first.answer.text)]
        second = last(asked, Turn("Which colour has it?", media), history=history)
        assert second.answer.prompt_tokens > first.answer.prompt_tokens
        with pytest.raises(ValueError, match="special token"):
            last(asked, Turn("<end_of_utterance>", media))
