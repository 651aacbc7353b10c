"""Vision-language models in a plan: what an image takes, by a processor on disk or by known sizes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from octavius.decoder.decoder import Decoder
from octavius.decoder.image_cost import NO_IMAGE
from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.plan.memory import quantisation_saves
from octavius.plan.outline import Setup, outline
from octavius.plan.report import SIZE
from octavius.plan.vision import VisionOutline
from tests.tiny_vision import write


@pytest.fixture(scope="module")
def smolvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("smolvlm", tmp_path_factory.mktemp("smolvlm") / "model")


def test_an_outline_counts_an_image_as_the_model_does(smolvlm: Path) -> None:
    decoder = VisionLanguageDecoder(str(smolvlm))
    for name in [path.name for path in smolvlm.glob("*.safetensors")]:
        (smolvlm / name).unlink()  # a plan needs no weights
    with torch.device("meta"):
        shape = VisionOutline(str(smolvlm), "float32", "sdpa", False, None)
    found = shape.image_cost(SIZE)
    assert found == decoder.image_cost(SIZE)
    assert found.tokens > decoder.image_cost((30, 90)).tokens > 0
    assert found.pixels >= 5 * 3 * 28 * 28 * 4  # four tiles and the whole image, in float32


def test_known_sizes_need_no_files() -> None:
    with torch.device("meta"):
        shape = VisionOutline("Qwen/Qwen3-VL-2B-Instruct", "bfloat16", "sdpa", False, 1)
    found = shape.image_cost((640, 480))
    assert found.tokens == 20 * 15  # an image token covers 32 x 32 pixels
    patches, values = 40 * 30, 3 * 2 * 16 * 16  # patches of two equal frames
    assert found.pixels == 4 * patches * values + 3 * 8  # and the numbers of patches, in int64
    assert found.operations == 2 * 406_957_056 * patches
    assert shape.image_cost((320, 480)).tokens == 150


def test_other_decoders_see_no_images(decoder_folder: Path) -> None:
    assert Decoder(str(decoder_folder)).image_cost(SIZE) == NO_IMAGE


def test_the_language_part_alone_is_quantised(smolvlm: Path, setup: Setup) -> None:
    lora = {"experts": 2, "rank": 4, "targets": ["q_proj"]}
    model = outline(replace(setup, decoder={"name": str(smolvlm)}, lora=lora, vision=True))
    weights = [part.weight.numel() for part in model.decoder.tuned.modules() if isinstance(part, nn.Linear)]
    assert quantisation_saves(model, "int8") == 3 * sum(weights)
    assert quantisation_saves(model, None) == 0
