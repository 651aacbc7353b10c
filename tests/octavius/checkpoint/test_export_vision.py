"""A vision-language model from `fit` to `test`, `predict` and `export`, whose folders transformers and PEFT load."""

import base64
import json
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fastapi.testclient import TestClient
from huggingface_hub import ModelCard
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from octavius.checkpoint.load import load
from octavius.cli.main import main
from octavius.cli.predict import ask
from octavius.instruction.sample import Media
from octavius.serve.app import Limits, build_app
from octavius.serve.engine import Engine
from octavius.serve.rows import Question
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
    main(["plan", "--config", "config.yaml", "--longest", "300"])
    said = capsys.readouterr().out
    model = load(Path("checkpoints/last.ckpt")).model
    trained = sum(part.numel() for name, part in model.named_parameters() if "lora_" in name)
    assert f"LoRA experts{trained:28,}{trained:16,}" in said
    lm, language = model.decoder.lm, model.decoder.tuned
    inside = {id(part) for part in [*language.parameters(), *lm.get_output_embeddings().parameters()]}
    beside = sum(part.numel() for part in lm.parameters() if id(part) not in inside)
    assert f"vision tower, connector{beside:17,}{0:16,}" in said
    [example] = [line for line in said.splitlines() if "those of an image of 640 x 480" in line]
    assert int(example.split()[0]) > 0
    assert "fits" in said


def test_it_is_served_as_it_is_asked(folder: Path, picture: Image.Image) -> None:
    """Rows with no image, one and several, in one batch, get the answers that `octavius predict` gives."""
    module = load(folder / "checkpoints" / "last.ckpt").eval()
    for name, parameter in module.model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.3)
    first, second = Media(array=np.asarray(picture)), Media(array=np.asarray(picture.rotate(90, expand=True)))
    both = (("image", first), ("image", second))
    questions = [
        Question("What is this?", media={"image": second}, max_new_tokens=9),
        Question("Is <image> larger than <image> or not?", placed=both, max_new_tokens=5),
        Question("Who are you?", max_new_tokens=7),
        Question(QUESTION, media={"image": first}, max_new_tokens=3),
    ]
    expected = [
        ask(module, one.text, one.media, one.max_new_tokens, images=[item for _, item in one.placed])
        for one in questions
    ]
    with Engine(module, batch_size=3) as engine:
        assert engine.modalities == ("image",)
        said: list[SimpleQueue[Any]] = [SimpleQueue() for _ in questions]
        for question, states in zip(questions, said, strict=True):
            engine.submit(engine.prepare(question), states.put)
        for states, (text, weights) in zip(said, expected, strict=True):
            while (answer := states.get(timeout=60)).finish is None:
                assert text.startswith(answer.text)
            assert answer.text == text
            assert answer.weights == pytest.approx(weights, abs=1e-5)
        with pytest.raises(ValueError, match="in the same order"):
            engine.prepare(Question("Is <image> larger?", placed=both))


def test_several_images_over_http_and_on_the_command_line(
    folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    picture.save("a.png")
    picture.rotate(90, expand=True).save("b.png")
    words = ["--question", "Is <image>larger than <image>?", "--max_new_tokens", "6"]
    main(["predict", "--ckpt", "last.ckpt", *words, "--image", "a.png", "b.png", "--json"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["images"] == ["a.png", "b.png"]
    said = refused(["predict", "--ckpt", "last.ckpt", *words, "--image", "a.png"], capsys)
    assert "has the placeholder <image> 2 times, and there are 1" in said

    def shown(name: str) -> dict[str, Any]:
        content = base64.b64encode(Path(name).read_bytes()).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}}

    texts = [{"type": "text", "text": text} for text in ("Is ", "larger than ", "?")]
    content = [texts[0], shown("a.png"), texts[1], shown("b.png"), texts[2]]
    with Engine(load(folder / "checkpoints" / "last.ckpt")) as engine:
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 6}
        reply = TestClient(build_app(engine, Limits())).post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == line["answer"]
    assert reply.json()["experts"]["weights"] == pytest.approx(line["experts"], abs=1e-5)
