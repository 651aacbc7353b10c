"""LoRA adapters that PEFT trained on a vision-language model become experts, or are refused with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from octavius.checkpoint.convert import import_into, read_source
from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.instruction.sample import Media, References, Sample
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe
from tests.tiny_vision import write

TARGETS = ["q_proj", "v_proj"]
LANGUAGE = r".*text_model.*\.(q_proj|v_proj)"


@pytest.fixture(scope="module")
def smolvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("smolvlm", tmp_path_factory.mktemp("smolvlm") / "model")


@pytest.fixture
def module(smolvlm: Path) -> OctaviusModule:
    lora = lora_moe(experts=2, rank=3, dropout=0.0, targets=TARGETS)
    return OctaviusModule(VisionLanguageDecoder(str(smolvlm)), {}, lora).eval()


def adapter_of(base: Path, to: Path, targets: Any) -> tuple[Path, Any]:
    """The folder of an adapter with random weights, and the model with it."""
    torch.manual_seed(1)
    plain = AutoModelForImageTextToText.from_pretrained(base)
    config = LoraConfig(r=2, lora_alpha=5, target_modules=targets, init_lora_weights=False)
    model: Any = get_peft_model(plain, config)
    model.save_pretrained(to)
    return to, model.eval()


@torch.no_grad()
def test_an_adapter_becomes_an_expert(smolvlm: Path, module: OctaviusModule, tmp_path: Path) -> None:
    folder, model = adapter_of(smolvlm, tmp_path / "adapter", LANGUAGE)
    assert "expert 0 of 4 layers" in import_into(module, read_source([folder]))
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    media = {"image": Media(array=picture)}
    sample = Sample("s", "conversation", "test", media, "What is this?", References(("A ball.",)))
    batch = module.processor.collate([module.processor.build_example(sample, sample.question, "A ball.")])
    decoder, mask = module.model.decoder, batch.attention_mask
    inputs = decoder.inputs(batch)
    with module.model.routing.use(torch.tensor([[1.0, 0.0]])):
        found = decoder.logits(inputs, mask, mask > 0)
    expected = model(**inputs.options(), attention_mask=mask).logits[mask > 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with model.disable_adapter():
        plain = model(**inputs.options(), attention_mask=mask).logits[mask > 0]
    assert float((plain - expected).abs().max()) > 1e-3


def test_adapters_that_do_not_fit_are_told(smolvlm: Path, module: OctaviusModule, tmp_path: Path) -> None:
    everywhere, _ = adapter_of(smolvlm, tmp_path / "everywhere", TARGETS)
    with pytest.raises(ValueError, match=r"such as model\.vision_model.* in the language part alone"):
        import_into(module, read_source([everywhere]))
    other = write("llava", tmp_path / "llava")
    folder, _ = adapter_of(other, tmp_path / "other", r".*language_model.*\.(q_proj|v_proj)")
    with pytest.raises(ValueError, match=r"is of the base .*llava, but the decoder is .*--base"):
        import_into(module, read_source([folder]))
    with pytest.raises(ValueError, match=r"The names here are such as model\.text_model.*another base"):
        import_into(module, read_source([folder]), base="llava")
