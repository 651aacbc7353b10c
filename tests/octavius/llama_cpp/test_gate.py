"""The exported gate weights experts as the model does, without the language model; other gates are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from octavius.folders import saving_folder
from octavius.instruction.sample import References, Sample
from octavius.llama_cpp.gate import FOLDER, SETTINGS, TENSORS, check_gate, read_gate, write_gate
from octavius.lora_moe.gates.instance import InstanceGate
from octavius.training import OctaviusModule
from tests.octavius.llama_cpp.models import tuned, write_language

QUESTIONS = ("What is red?", "Describe the picture.", "Find </s> all chairs, and count them: 1, 2, 3.")
NAMES = ("expert0-a.gguf", "expert1-b.gguf", "expert2-c.gguf", "expert3-d.gguf")
KINDS: dict[str, dict[str, Any]] = {
    "instance": {},
    "source": {"gate": "source"},
    "sharp": {"top_k": 1, "temperature": 0.5},
    "universal": {"universal": True, "top_k": 1},
    "dense": {"gate": "dense"},
    "uniform": {"gate": "uniform"},
    "published": {"gate": "published"},
    "one": {"experts": 1},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "token": ({"gate": "token"}, "TokenGate routes each token inside each layer"),
    "each layer": ({"per_layer": True}, "weights for each layer"),
    "by depth": ({"experts": [2, 4]}, "weights for each layer"),
    "task": (
        {"gate": "individual", "tasks": ["vqa", "detection", "captioning", "vqa3d"]},
        "reads task beside",
    ),
    "media": ({"inputs": ["media"]}, "reads media beside the question"),
}


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language(tmp_path_factory.mktemp("gate") / "language")


def saved(module: OctaviusModule, folder: Path) -> Path:
    check_gate(module)
    with saving_folder(folder, new=True) as partial:
        write_gate(partial, module, "base-0.gguf", NAMES)
    return folder


@torch.inference_mode()
def routed(module: OctaviusModule, question: str) -> list[float]:
    sample = Sample("s", "conversation", "b", {}, question, References(("",)))
    batch = module.processor.collate([module.processor.build_example(sample, question, None)])
    weights: Any = module.model.route(batch)
    return list(weights[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_model(language: Path, tmp_path: Path, kind: str) -> None:
    module = tuned(language, **KINDS[kind])
    exported = read_gate(saved(module, tmp_path / "out"))
    assert (exported.base, exported.experts) == ("base-0.gguf", NAMES)
    assert exported.positions == 256
    for question in QUESTIONS:
        sample = Sample("s", "conversation", "b", {}, question, References(("",)))
        prompt = exported.prompts.build(sample, question, None)
        assert prompt == module.processor.prompts.build(sample, question, None)
        assert exported.weights(prompt.gate_ids) == pytest.approx(routed(module, question), abs=1e-6)
    if kind == "instance":
        assert len({exported.weights(exported.prompts.tokenizer.encode(text)) for text in QUESTIONS}) == 3


@pytest.mark.parametrize("kind", REFUSED)
def test_gates_without_one_weight_for_each_question_are_refused(language: Path, kind: str) -> None:
    settings, said = REFUSED[kind]
    with pytest.raises(ValueError, match=f"{said}.*llama-server takes one scale"):
        check_gate(tuned(language, **settings))


class MyGate(InstanceGate):
    """A gate of a user."""


def test_a_gate_of_a_user_is_refused(language: Path) -> None:
    module = tuned(language)
    assert module.model.gate is not None
    module.model.gate.__class__ = MyGate
    with pytest.raises(ValueError, match="class of your own"):
        check_gate(module)


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no gate/gate\.json: .*--format gguf"):
        read_gate(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SETTINGS, lambda content: content.replace(b"instance", b"instanse"), "not the file that was saved"),
        (TENSORS, lambda content: content[:-3], "not the file that was saved"),
    ],
)
def test_a_changed_file_is_noticed(language: Path, tmp_path: Path, name: str, change: Any, said: str) -> None:
    folder = saved(tuned(language), tmp_path / "out")
    file = folder / FOLDER / name
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=said):
        read_gate(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"instance"', '"instanse"'), "cannot be read"),
        (lambda text: text.replace('"max_tokens"', '"most"'), "cannot be read"),
        (lambda text: text.replace('"experts": 4', '"experts": 5'), "shape|size"),
        (lambda text: text[:-4], "not JSON"),
    ],
)
def test_settings_that_do_not_fit_are_refused(language: Path, tmp_path: Path, change: Any, said: str) -> None:
    folder = saved(tuned(language), tmp_path / "out")
    (folder / "sha256.json").unlink()
    file = folder / FOLDER / SETTINGS
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=said):
        read_gate(folder)
