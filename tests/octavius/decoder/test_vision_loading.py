"""Bases and samples that a vision-language decoder refuses: before training, with the reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavius.decoder.vision_language import VisionLanguageDecoder
from octavius.encoders.base import UnreadableMediaError
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.sample import Media, References, Sample
from octavius.lora_moe import LoRAMoEConfig
from octavius.lora_moe.gates import InstanceGate
from octavius.model import Octavius
from octavius.training import OctaviusModule
from tests.tiny_vision import SHIPPED, write

PICTURE = Media(array=np.zeros((40, 50, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def smolvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("smolvlm", tmp_path_factory.mktemp("smolvlm") / "model")


@pytest.fixture(scope="module")
def decoder(smolvlm: Path) -> VisionLanguageDecoder:
    return VisionLanguageDecoder(str(smolvlm))


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


def refused(folder: str | Path, **options: Any) -> str:
    with pytest.raises(ValueError, match=r"\w") as error:
        VisionLanguageDecoder(str(folder), **options)
    return str(error.value)


def test_a_language_model_is_refused() -> None:
    assert "class_path: Decoder" in refused(SHIPPED)


def test_a_folder_without_processor_is_refused(smolvlm: Path, tmp_path: Path) -> None:
    folder = copied(smolvlm, tmp_path)
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    said = refused(folder)
    assert "processor" in said, said


def test_a_processor_of_another_family_is_refused(smolvlm: Path, tmp_path: Path) -> None:
    folder, other = copied(smolvlm, tmp_path), write("llava", tmp_path / "llava")
    for file in other.iterdir():
        if file.name not in ("config.json", "generation_config.json") and file.suffix != ".safetensors":
            shutil.copy(file, folder)
    said = refused(folder)
    assert "Do the processor's files belong to this model?" in said or "image" in said, said


def test_a_base_without_chat_template_is_refused(smolvlm: Path, tmp_path: Path) -> None:
    folder = copied(smolvlm, tmp_path)
    (folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refused(folder)


def test_weights_that_are_missing_are_named(smolvlm: Path, tmp_path: Path) -> None:
    folder = copied(smolvlm, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    assert "tensors are missing" in refused(folder)


def test_a_name_that_is_nowhere(tmp_path: Path) -> None:
    assert "no vision-language model could be loaded" in refused(tmp_path / "nothing")


def sample(question: str = "What is this?", media: dict[str, Media] | None = None, **facts: Any) -> Sample:
    chosen = {"image": PICTURE} if media is None else media
    return Sample("s1", "conversation", "b", chosen, question, References(("a ball",)), **facts)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (sample("Describe <image> this."), "the image is placed by itself"),
        (sample("Describe <image> this.", {}), "the sample has no image"),
        (sample("Go<end_of_utterance>"), "holds '<end_of_utterance>'"),
        (sample(history=(("<image>?", "Yes."),)), "the image is placed by itself"),
        (sample(media={"cloud": PICTURE}), "has the modality 'cloud'"),
        (sample(media={"image": Media(path=Path("/nowhere/a.jpg"))}), "has no image: there is no file"),
    ],
)
def test_samples_are_refused_before_training(
    decoder: VisionLanguageDecoder, asked: Sample, said: str
) -> None:
    with pytest.raises(UnreadableMediaError, match="s1") as error:
        Octavius(decoder, {}).prepare(lambda: [sample(), asked], "cpu")
    assert said in str(error.value)
    with pytest.raises(ValueError, match="s1"):
        decoder.own_processor(2048).build_example(asked, asked.question, None)


def test_an_answer_with_a_special_token_is_refused(decoder: VisionLanguageDecoder) -> None:
    with pytest.raises(ValueError, match="special token"):
        decoder.own_processor(2048).build_example(sample(), "What is this?", "a <image>")


def test_image_tokens_count_towards_the_limit(decoder: VisionLanguageDecoder) -> None:
    with pytest.raises(ValueError, match="max_tokens is 24"):
        decoder.own_processor(24).build_example(sample(), "What is this?", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoders": {"image": PrecomputedFeatures(3, 8)}}, "a vision tower of its own"),
        ({"template": "chat"}, "its own chat template"),
        ({"tag_tokens": True}, "set tag_tokens to false"),
        ({"lora": LoRAMoEConfig(2, rank=2, targets=["fc1"])}, "match no linear layer"),
    ],
)
def test_settings_that_contradict_it(
    decoder: VisionLanguageDecoder, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        OctaviusModule(decoder, **{"encoders": {}, **options})


def test_gates_that_read_media_are_refused(decoder: VisionLanguageDecoder) -> None:
    def reading(size: Any) -> InstanceGate:
        return InstanceGate(size, inputs=["question", "media"])

    with pytest.raises(ValueError, match="media"):
        Octavius(decoder, {}, LoRAMoEConfig(3, rank=2, gate=reading))  # type: ignore[arg-type]


def test_packed_batches_are_refused(decoder: VisionLanguageDecoder) -> None:
    with pytest.raises(ValueError, match="grouped"):
        decoder.check_packing()


def test_it_trains_in_bfloat16(smolvlm: Path, write: Callable[..., Any]) -> None:
    module = OctaviusModule(VisionLanguageDecoder(str(smolvlm), "bfloat16"), {}, LoRAMoEConfig(2, rank=2))
    batch = write(module.processor, (sample(), "What is this?", "a ball"))
    assert bool(module.model(batch).losses.isfinite().all())
