"""Language models that bitsandbytes quantises while they are loaded."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from octavius.decoder import quantised
from octavius.decoder.decoder import Decoder
from octavius.decoder.quantised import Quantised
from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.decoder.vision_loading import beside_language, connector_of
from octavius.instruction.sample import Media, References, Sample
from octavius.lora_moe.merge import layers_of, merge
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe
from tests.tiny_vision import write as write_vision_model

IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2]])


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if weights are read."""
    monkeypatch.setattr("octavius.decoder.decoder.load_model", lambda *_: pytest.fail("weights were read"))


@pytest.mark.usefixtures("unread")
def test_a_missing_library_is_told_before_weights_are_read(
    decoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    with pytest.raises(ValueError, match=r"needs bitsandbytes, .* pip install 'octavius\[quantise\]'"):
        Decoder(str(decoder_folder), quantise="nf4")


@pytest.mark.usefixtures("unread")
def test_a_device_that_cannot_is_told_before_weights_are_read(
    decoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("no kernel\nfor this device")

    monkeypatch.setattr(quantised, "find_spec", lambda _: object())
    monkeypatch.setattr(quantised, "_probe", fail)
    with pytest.raises(ValueError, match=r"int8 does not work on this machine: .*no kernel for this device"):
        Decoder(str(decoder_folder), quantise="int8")
    with pytest.raises(ValueError, match="leave out from_scratch, and take no GGUF"):
        Decoder(str(decoder_folder), from_scratch=True, quantise="int8")


def test_a_quantised_decoder_is_not_trained_whole(decoder_folder: Path) -> None:
    decoder = Decoder(str(decoder_folder))
    decoder.quantise = "nf4"
    with pytest.raises(ValueError, match="cannot be trained whole; give it experts"):
        OctaviusModule(decoder, {})


@pytest.mark.parametrize(
    ("kind", "weights", "error"), [("nf4", torch.uint8, 0.2), ("int8", torch.int8, 0.05)]
)
def test_experts_are_trained_on_a_quantised_decoder(
    kind: Quantised, weights: torch.dtype, error: float, decoder_folder: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    plain, decoder = Decoder(str(decoder_folder)), Decoder(str(decoder_folder), quantise=kind)
    for name, layer in plain.lm.named_modules():
        if isinstance(layer, nn.Linear) and name != "lm_head":
            x = torch.randn(3, layer.in_features)
            with torch.no_grad():
                expected, found = layer(x), decoder.lm.get_submodule(name)(x)
            assert 0 < (found - expected).norm() / expected.norm() < error
    head: Any = decoder.lm.get_output_embeddings()
    assert type(head) is nn.Linear
    modules = [
        OctaviusModule(one, {}, lora_moe(experts=2, rank=2, dropout=0.0))
        for one in (decoder, Decoder(str(decoder_folder), quantise=kind))
    ]
    assert modules[0].frozen_fingerprint == modules[1].frozen_fingerprint
    lm, routing = decoder.lm, modules[0].model.routing
    layers = layers_of(lm)
    assert {next(layer.base.parameters()).dtype for layer in layers.values()} == {weights}
    with routing.use(torch.tensor([[1.0, 0.0], [0.3, 0.7]])):
        loss = lm(IDS, labels=IDS).loss
    loss.backward()
    trained = {name for name, part in lm.named_parameters() if part.grad is not None}
    assert trained == {f"{name}.{half}" for name in layers for half in ("lora_A", "lora_B")}
    assert all(
        layer.lora_B.grad.abs().max() > 0 for layer in layers.values() if layer.lora_B.grad is not None
    )
    with pytest.raises(ValueError, match="A quantised base would have to be rounded again"):
        merge(lm, torch.tensor([1.0, 0.0]))


def test_the_probe_multiplies_by_a_quantised_matrix() -> None:
    pytest.importorskip("bitsandbytes")
    for kind in ("nf4", "int8"):
        options = quantised.loading_options(kind, torch.float32, "folder", False)
        settings = SimpleNamespace(**options["quantization_config"].to_dict())
        assert (settings.load_in_4bit, settings.load_in_8bit) == (kind == "nf4", kind == "int8")


@pytest.fixture(scope="module")
def smolvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision_model("smolvlm", tmp_path_factory.mktemp("smolvlm") / "model")


def test_what_is_beside_the_language_part(smolvlm: Path) -> None:
    assert beside_language(smolvlm) == ["lm_head", "model.vision_model", "model.connector"]


def test_vision_language_models_need_the_library_too(smolvlm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    monkeypatch.setattr(
        "octavius.decoder.vision_language.load_model", lambda *_: pytest.fail("weights were read")
    )
    with pytest.raises(ValueError, match=r"needs bitsandbytes, .* pip install 'octavius\[quantise\]'"):
        VisionLanguageDecoder(str(smolvlm), quantise="nf4")


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_language_part_of_a_vision_language_model_is_quantised(kind: Quantised, smolvlm: Path) -> None:
    pytest.importorskip("bitsandbytes")
    decoder = VisionLanguageDecoder(str(smolvlm), train_connector=True, quantise=kind)
    plain = VisionLanguageDecoder(str(smolvlm))
    inside = {id(part) for part in decoder.tuned.modules()}
    for name, layer in decoder.lm.named_modules():
        if isinstance(layer, nn.Linear):
            assert (type(layer) is not nn.Linear) is (id(layer) in inside), name
        elif isinstance(layer, nn.Embedding):
            assert torch.equal(layer.weight, plain.lm.get_submodule(name).weight)
    module = OctaviusModule(decoder, {}, lora_moe(experts=2, rank=2, dropout=0.0))
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    gold = References(("A red ball.",))
    sample = Sample("s", "conversation", "test", {"image": Media(array=picture)}, "What is this?", gold)
    example = module.processor.build_example(sample, sample.question, "A red ball.")
    module.model(module.processor.collate([example])).losses.sum().backward()
    trained = {name for name, part in module.model.named_parameters() if part.grad is not None}
    assert any(name.endswith("lora_B") for name in trained)
    connector = {id(part) for one in connector_of(decoder.lm) for part in one.parameters()}
    assert connector <= {id(part) for part in module.model.parameters() if part.grad is not None}
    question = module.processor.collate([module.processor.build_example(sample, sample.question, None)])
    assert len(module.model.generate(question, 3)[0]) == 1
