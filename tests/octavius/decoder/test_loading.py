"""Loading of language models: damaged folders, other configurations, names that are nowhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from octavius.decoder.decoder import Decoder
from octavius.decoder.loading import locate


@pytest.fixture
def copy(decoder_folder: Path, tmp_path: Path) -> Path:
    """A decoder's folder that a test may damage."""
    return Path(shutil.copytree(decoder_folder, tmp_path / "copy"))


def change(file: Path, **facts: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))


def refused(name: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Decoder(str(name), **options)
    assert str(name) in str(caught.value)


def test_a_name_that_is_nowhere() -> None:
    refused(
        "nobody/no-such-model",
        "no language model could be loaded from 'nobody/no-such-model': expected a hub id",
    )
    refused(
        "no-such-model",
        "expected a hub id .*, a folder with config.json, weights and tokenizer, or a .gguf file",
    )
    refused("missing/model.gguf", r"no checkpoint named 'missing/model\.gguf' \(looked in ")
    assert locate("nobody/no-such-model") == "nobody/no-such-model"


def test_damaged_folders(copy: Path, tmp_path: Path, decoder_folder: Path) -> None:
    said = f"no language model could be loaded from '{copy}': expected .* The loader said: "
    weights, config = copy / "model.safetensors", copy / "config.json"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    refused(copy, said)
    weights.unlink()
    refused(copy, said + r".*no file named model\.safetensors")
    weights.write_bytes(data)
    text = config.read_text()
    config.write_text(text[:50])
    refused(copy, said + ".*not a valid JSON")
    config.write_text(text)
    change(config, model_type="llamalama")
    refused(copy, said + "(?s:.*)llamalama")
    config.write_text(text)
    refused(copy, said + "(?s:.*)stone", attention="stone")
    (copy / "tokenizer.json").unlink()
    refused(copy, said)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no language model could be loaded")
    assert Decoder(str(decoder_folder))  # the one that was copied is still whole


def test_weights_of_another_configuration_are_refused(copy: Path) -> None:
    change(copy / "config.json", num_hidden_layers=3)
    refused(
        copy,
        r"weights do not match the configuration: 9 tensors .* the first is model\.layers\.2\.",
    )
    change(copy / "config.json", num_hidden_layers=2, intermediate_size=50)
    refused(copy, "no language model could be loaded")
    change(copy / "config.json", intermediate_size=48)
    state = load_file(copy / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    refused(copy, r"1 tensors .* the first is model\.norm\.weight")


def test_a_vision_language_model_is_told_which_class_to_take(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "idefics3"}))
    refused(tmp_path, "of the type 'idefics3': take class_path: VisionLanguageDecoder")
