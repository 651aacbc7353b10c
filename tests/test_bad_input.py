"""Bad input of every kind gives one message: what was expected, what was found, where, and what to do."""

import copy
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from datamodules.examples import find_task
from octavius.cli.main import main
from tests.selection import mostly_slow
from tests.tiny import options, refused, settings, write_models

FIT = ["fit", "--config", "small.yaml"]
TEST = ["test", "--ckpt", "last.ckpt"]
ASK = ["predict", "--question", "What is it?"]


@dataclass(frozen=True)
class Place:
    """The current folder of a case.

    Attributes:
        small: the settings of `small.yaml`, which lies here.
        trained: a folder with `last.ckpt` and `last.yaml`, which is not to be changed.
        models: the folder of the tiny models.
    """

    small: dict[str, Any]
    trained: Path
    models: Path

    def data(self, items: list[dict[str, Any]] | str, **sources: Any) -> list[str]:
        """Conversations as training data, in JSON or as the text of the file; pictures a.png and b.png."""
        Path("data").mkdir()
        for name in ("a.png", "b.png"):
            Image.effect_noise((32, 32), 60).save(f"data/{name}")
        Path("data/train.json").write_text(items if isinstance(items, str) else json.dumps(items))
        train = [{"benchmark": "conversations", "split": "train"}]
        changed = {"root": "data", "train": train, "validate": [], "workers": 1, **sources}
        return self.fit(data=changed)

    def fit(self, **parts: dict[str, Any]) -> list[str]:
        """`octavius fit` with some `init_args` of model or data changed in `small.yaml`."""
        content = copy.deepcopy(self.small)
        for part, changed in parts.items():
            content[part]["init_args"] |= changed
        Path("small.yaml").write_text(yaml.safe_dump(content))
        return FIT

    def checkpoint(self) -> Path:
        """The trained checkpoint and its configuration, copied to `checkpoints/`."""
        shutil.copytree(self.trained, "checkpoints")
        return Path("checkpoints/last.ckpt")


def turns(question: str = "What is it?", answer: str = "A star.", **more: Any) -> dict[str, Any]:
    """One item of a conversation file."""
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": "7", "image": "a.png", "conversations": said, "task_type": "normal", **more}


def boxes(*edges: float, text: str = "") -> dict[str, Any]:
    """A detection item that answers with one box."""
    x1, y1, x2, y2 = edges or (0.1, 0.1, 0.5, 0.5)
    item = f"<Item><x1>{x1}</x1><y1>{y1}</y1><x2>{x2}</x2><y2>{y2}</y2><cls>star</cls></Item>"
    return turns("", text or f"<Data>{item}</Data>", task_type="detection")


def truncated_image(place: Place) -> list[str]:
    words = place.data([turns(), turns(image="b.png")])
    picture = Path("data/b.png")
    picture.write_bytes(picture.read_bytes()[:400])
    return words


def text_for_an_image(place: Place) -> list[str]:
    words = place.data([turns(image="b.png")])
    Path("data/b.png").write_text("404 not found")
    return words


def malformed_voc(place: Place) -> list[str]:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        Path("data", folder).mkdir(parents=True)
    Path("data/ImageSets/Main/train.txt").write_text("000001\n")
    Path("data/Annotations/000001.xml").write_text("<annotation><size><width>32</width>")
    train = [{"benchmark": "voc_detection", "split": "train"}]
    return place.fit(data={"root": "data", "train": train, "validate": []})


def truncated_checkpoint(words: list[str]) -> Callable[[Place], list[str]]:
    def cut(place: Place) -> list[str]:
        path = place.checkpoint()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return words

    return cut


def no_checkpoint_at_all(place: Place) -> list[str]:
    torch.save({"weights": torch.zeros(2)}, place.checkpoint())
    return TEST


def harmful_checkpoint(place: Place) -> list[str]:
    torch.save({"state_dict": random.Random(0)}, place.checkpoint())
    return TEST


def other_frozen_weights(place: Place) -> list[str]:
    place.checkpoint()
    fresh = options(model__init_args__decoder__init_args__from_scratch="true", seed_everything=1)
    return [*TEST, *fresh]


def written(text: str) -> Callable[[Place], list[str]]:
    def write(_: Place) -> list[str]:
        Path("mine.yaml").write_text(text)
        return [*FIT, "--config", "mine.yaml"]

    return write


def asking(*words: str) -> Callable[[Place], list[str]]:
    def ask(place: Place) -> list[str]:
        place.checkpoint()
        Path("words.txt").write_text("no picture")
        return ["predict", *words]

    return ask


def lora(**changed: Any) -> Callable[[Place], list[str]]:
    return lambda place: place.fit(model={"lora": {**place.small["model"]["init_args"]["lora"], **changed}})


def data(*items: dict[str, Any] | str, **sources: Any) -> Callable[[Place], list[str]]:
    def write(place: Place) -> list[str]:
        texts = [item for item in items if isinstance(item, str)]
        return place.data(
            texts[0] if texts else [item for item in items if isinstance(item, dict)], **sources
        )

    return write


def says(words: list[str]) -> Callable[[Place], list[str]]:
    return lambda _: words


CASES: dict[str, tuple[Callable[[Place], list[str]], list[str]]] = {
    # pictures
    "missing image": (
        data(turns(), turns(image="gone.png")),
        ["sample 7-1-0 of conversations", "no image file at data/gone.png", "check the data root"],
    ),
    "truncated image": (
        truncated_image,
        [
            "sample 7-1-0 of conversations",
            "data/b.png is not an image that can be read",
            "replace or remove it",
        ],
    ),
    "text for an image": (text_for_an_image, ["data/b.png is not an image that can be read"]),
    # annotation files
    "malformed JSON": (
        data('[{"id": "7", "image": "a.png",'),
        ["data/train.json is not valid JSON at line 1, column 31", "copy it again"],
    ),
    "JSON of another kind": (data('{"id": 7}'), ["data/train.json: expected a list", "found an object"]),
    "malformed XML in an answer": (
        data(boxes(text="<Data><Item></Data>")),
        ["data/train.json, item 0 (id '7')", "the detection answer is not valid XML", "bad=skip"],
    ),
    "malformed XML file": (
        malformed_voc,
        ["data, ImageSets/Main/train.txt line 1", "Annotations/000001.xml is not valid XML", "bad=skip"],
    ),
    "box outside": (
        data(boxes(0.1, 0.1, 1.2, 0.5)),
        ["data/train.json, item 0 (id '7')", "bad box", "1.2", "Correct it"],
    ),
    "reversed box": (
        data(boxes(0.6, 0.1, 0.2, 0.5)),
        ["data/train.json, item 0 (id '7')", "bad box", "0.6", "Correct it"],
    ),
    "empty answer": (
        data(turns(answer="  ")),
        ["data/train.json, item 0 (id '7')", "the answer conversations[1] is empty", "Correct it"],
    ),
    "unknown task type": (
        data(turns(task_type="dancing")),
        ["data/train.json, item 0", "unknown task_type 'dancing'", "known ones are", "conversation"],
    ),
    "path out of its root": (
        data(turns(image="../secret.png")),
        ["item 0 (id '7')", "'../secret.png' leads out of the data folder data", "stays inside"],
    ),
    "absolute path": (
        data(turns(image="/etc/passwd")),
        ["'/etc/passwd' leads out of the data folder data", "expected a relative path"],
    ),
    "no sample at all": (data("[]"), ["conversations, split 'train'", "no sample found", "at least one"]),
    # names in the configuration
    "unknown benchmark": (
        data(turns(), train=[{"benchmark": "cocoa", "split": "train"}]),
        ["unknown benchmark 'cocoa'", "known ones are", "coco_captioning"],
    ),
    "missing data folder": (
        lambda place: place.fit(data={"root": "nowhere"}),
        ["the data folder nowhere does not exist", "nowhere/seen/coco", "Set --data.init_args.root"],
    ),
    "missing split": (
        data(turns(), train=[{"benchmark": "conversations", "split": "tran"}]),
        ["tran.json", "not found in the data folder data", "Expected layout"],
    ),
    "nothing to train on": (data(turns(), train=[]), ["nothing to train on", "data.init_args.train"]),
    "picture for a model without eyes": (
        lambda place: place.fit(model={"encoders": {}}),
        ["has the modality 'image'", "takes none", "add an encoder"],
    ),
    "prompt too long": (
        lambda place: place.fit(model={"max_tokens": 20}),
        ["tokens", "max_tokens is 20", "raise it"],
    ),
    "more chosen than there are": (
        lora(experts=2, gate={"init_args": {"top_k": 3}}),
        ["top_k = 3, experts = 2", "lower top_k to 2"],
    ),
    "precision that rounds trained weights": (
        lambda _: [*FIT, "--trainer.precision", "bf16-true"],
        ["trainer.precision is 'bf16-true'", "take bf16-mixed"],
    ),
    "no expert": (lora(experts=0), ["experts should be a whole number of at least 1", "found 0"]),
    "rank 0": (lora(rank=0), ["rank should be a whole number of at least 1", "found 0"]),
    "target that matches nothing": (
        lora(targets=["q_prj"]),
        ["match no linear layer of LlamaForCausalLM: ['q_prj']", "q_proj", "name some of these"],
    ),
    "unknown language model": (
        says([*FIT, *options(model__init_args__decoder__init_args__name="./nowhere")]),
        ["no language model could be loaded from './nowhere'", "expected a hub id"],
    ),
    "unknown image encoder": (
        says([*FIT, *options(model__init_args__encoders__image__init_args__name="ViT-L-41")]),
        ["'ViT-L-41' is neither an open_clip model nor a folder", "did you mean 'ViT-L-1"],
    ),
    # the configuration itself
    "unknown command": (says(["fitt"]), ["no command 'fitt'", "did you mean 'fit'?", "validate"]),
    "unknown configuration": (
        says(["fit", "--config", "2e.yaml"]),
        ["no configuration named '2e.yaml'", "looked in", "did you mean '2d.yaml'?"],
    ),
    "no configuration": (says(["fit"]), ["model and data are missing", "--config 2d.yaml"]),
    "malformed YAML": (
        written("model: [\n  class_path: }"),
        ["mine.yaml is not valid YAML at line 2, column 15", "correct it"],
    ),
    "YAML of another kind": (written("- a"), ["mine.yaml should hold keys and their values", "['a']"]),
    "unknown key": (
        written("model: {init_args: {lora: {expert: 3}}}"),
        ["model.lora: LoRAMoEConfig has no option 'expert' (did you mean 'experts'?)", "mine.yaml"],
    ),
    "unknown section": (
        written("modell: {class_path: OctaviusModule}"),
        ["no option 'modell' (did you mean 'model'?)", "mine.yaml"],
    ),
    "unknown key of a list": (
        written("data: {init_args: {train: [{benchmrk: scienceqa, split: train}]}}"),
        ["data.train: Source has no option 'benchmrk' (did you mean 'benchmark'?)"],
    ),
    "unknown option": (
        says([*FIT, "--trainer.max_epoch", "3"]),
        ["no option '--trainer.max_epoch' (did you mean '--trainer.max_epochs'?)"],
    ),
    "text for a number": (
        says([*FIT, *options(model__init_args__lr="fast")]),
        ["model.lr: expected float, found fast", "the command line"],
    ),
    "unknown device": (
        says([*FIT, *options(trainer__accelerator="warp")]),
        ["accelerator='warp'", "Available names are", "cuda"],
    ),
    "unknown choice": (
        written("data: {init_args: {bad: maybe}}"),
        ["data.bad: expected one of 'error', 'skip', found maybe"],
    ),
    "unknown class": (
        written("model: {class_path: OctaviusModul}"),
        ["model: there is no class 'OctaviusModul' (did you mean 'OctaviusModule'?)", "mine.yaml"],
    ),
    # checkpoints
    "unknown checkpoint": (
        says(["test", "--ckpt", "lost.ckpt"]),
        ["no checkpoint named 'lost.ckpt'", "looked in"],
    ),
    "truncated checkpoint": (
        truncated_checkpoint(TEST),
        ["checkpoints/last.ckpt", "cannot be read as a checkpoint", "cut short", "Copy it again"],
    ),
    "truncated checkpoint to go on from": (
        truncated_checkpoint(["fit", "--ckpt", "last.ckpt"]),
        ["checkpoints/last.ckpt", "cut short"],
    ),
    "truncated checkpoint to ask": (truncated_checkpoint(ASK), ["checkpoints/last.ckpt", "cut short"]),
    "file that is no checkpoint": (
        no_checkpoint_at_all,
        ["checkpoints/last.ckpt is not a checkpoint of Octavius", "expected the key 'state_dict'"],
    ),
    "checkpoint with code in it": (
        harmful_checkpoint,
        ["checkpoints/last.ckpt", "cannot be read", "more than tensors and plain values"],
    ),
    "checkpoint of other experts": (
        lambda place: [*TEST, *options(model__init_args__lora__rank=3)] if place.checkpoint() else [],
        [
            "checkpoints/last.ckpt: this checkpoint is of another model",
            "lora_A",
            "Use the configuration that was saved beside",
        ],
    ),
    "checkpoint of other frozen weights": (
        other_frozen_weights,
        ["checkpoints/last.ckpt: the frozen weights differ", "load the same decoder and encoders"],
    ),
    # questions
    "missing image asked about": (
        asking("--question", "What is it?", "--image", "gone.png"),
        ["no image file at", "gone.png", "check --image"],
    ),
    "text asked about as an image": (
        asking("--question", "What is it?", "--image", "words.txt"),
        ["words.txt is not an image that can be read"],
    ),
    "empty question": (asking("--question", " "), ["the question is empty", "ask something"]),
    "no question": (asking(), ["name either --question TEXT or --questions FILE", "found neither"]),
    "miniature over other files": (says(["miniature", "."]), ["it holds no miniature.json", "another root"]),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def trained(models: Path, miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained checkpoint and its configuration."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(yaml.safe_dump(settings(models, miniature_root)))
    place = options(checkpoint__dirpath=folder / "kept", data__init_args__validate="[]")
    main(["fit", "--config", str(folder / "small.yaml"), *place])
    return folder / "kept"


@pytest.mark.parametrize("name", mostly_slow(CASES, 40))
def test_one_message_says_it_all(
    name: str,
    trained: Path,
    models: Path,
    miniature_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place(settings(models, miniature_root), trained, models)
    Path("small.yaml").write_text(yaml.safe_dump(place.small))
    spoil, expected = CASES[name]
    text = refused(spoil(place), capsys)
    assert [part for part in expected if part not in text] == [], text
    assert len(text) < 900, text


def test_an_unknown_task_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'detektion' [(]did you mean 'detection'\?[)]; known: .*detection"):
        find_task("detektion")
