"""A vision-language model from `fit` to `test`, `predict` and `export`, whose folders transformers and PEFT load."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from octavius.checkpoint.load import load
from octavius.cli.main import main
from octavius.cli.predict import ask
from octavius.instruction.sample import Media
from octavius.serve.engine import Engine
from tests.tiny import options, refused, settings
from tests.tiny_vision import write

QUESTION = "Describe the picture."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> Path:
    """A run of two steps with its checkpoint, and its exports for one question."""
    folder = tmp_path_factory.mktemp("vision")
    base = write("smolvlm", folder / "base")
    config = settings(folder, miniature_root)
    model = config["model"]["init_args"]
    model["decoder"] = {
        "class_path": "VisionLanguageDecoder",
        "init_args": {"name": str(base), "train_connector": False},
    }
    model |= {"encoders": {}, "activation_checkpointing": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", "config.yaml"])
        for form in ("hf", "peft"):
            main(["export", *options(format=form, question=QUESTION, ckpt="last.ckpt", out=form)])
    return folder


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@torch.no_grad()
def test_transformers_and_peft_answer_as_the_checkpoint(folder: Path, picture: Image.Image) -> None:
    module = load(folder / "checkpoints" / "last.ckpt")
    media = {"image": Media(array=np.asarray(picture))}
    expected, weights = ask(module, QUESTION, media, max_new_tokens=6)
    assert weights is not None
    assert ask(load(folder / "hf"), QUESTION, media, max_new_tokens=6) == (expected, None)
    assert ask(load(folder / "peft"), QUESTION, media, max_new_tokens=6)[0] == expected
    processor = AutoProcessor.from_pretrained(folder / "hf")
    said = [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": said}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    plain = AutoModelForImageTextToText.from_pretrained(folder / "hf")
    new = plain.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(new, skip_special_tokens=True).strip() == expected
    base = AutoModelForImageTextToText.from_pretrained(folder / "base")
    before = base(**inputs).logits
    adapter = PeftModel.from_pretrained(base, folder / "peft")
    logits = plain(**inputs).logits
    assert float((before - logits).abs().max()) > 1e-3  # training changed something
    torch.testing.assert_close(adapter(**inputs).logits, logits, atol=1e-4, rtol=0)


def test_the_cards_name_its_classes(folder: Path) -> None:
    for form in ("hf", "peft"):
        assert "AutoModelForImageTextToText" in ModelCard.load(folder / form / "README.md").text
    assert "AutoProcessor" in ModelCard.load(folder / "hf" / "README.md").text


def test_the_commands_after_a_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    main(["test", "--ckpt", "last.ckpt"])
    assert "captioning" in capsys.readouterr().out
    main(["check-data", "--config", "config.yaml", "--jobs", "1"])
    assert "nothing is wrong" in capsys.readouterr().out
    said = refused(["predict", "--ckpt", "last.ckpt", "--question", "What is <image>?"], capsys)
    assert "the sample has no image" in said
    assert "not planned yet" in refused(["plan", "--config", "config.yaml"], capsys)


def test_it_is_not_served_yet(folder: Path) -> None:
    with pytest.raises(ValueError, match="cannot be served yet"):
        Engine(load(folder / "checkpoints" / "last.ckpt"))
