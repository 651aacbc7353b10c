"""Exported folders answer like the checkpoint and load in other programs; other exports are refused."""

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from octavius.checkpoint.export import fixed_gate
from octavius.checkpoint.load import load
from octavius.checkpoint_format.content import FORMAT_KEY
from octavius.cli.main import main
from octavius.cli.predict import ask, media_of
from octavius.folders import LIST
from octavius.instruction.sample import References, Sample
from octavius.llama_cpp.gate import read_gate
from octavius.tasks import TASKS
from octavius.training import OctaviusModule
from tests.tiny import options, refused, settings, write_models

QUESTION = "Describe the picture."
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2]])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> Path:
    """A folder with a tiny trained model, whose experts do much."""
    folder = tmp_path_factory.mktemp("export")
    small = settings(write_models(folder / "models"), miniature_root)
    with contextlib.chdir(folder):
        Path("small.yaml").write_text(yaml.safe_dump(small))
        main(["fit", "--config", "small.yaml", "--data.init_args.validate", "[]"])
        checkpoint = torch.load("checkpoints/last.ckpt", weights_only=True)
        del checkpoint[FORMAT_KEY]  # as of an earlier version: what is saved again has no checksum
        for name, tensor in checkpoint["state_dict"].items():
            if name.endswith("lora_B"):
                tensor.normal_(std=0.5)
        torch.save(checkpoint, "checkpoints/last.ckpt")
        for form in ("hf", "peft", "experts", "gguf"):
            asked = [] if form in ("experts", "gguf") else ["--question", QUESTION]
            main(["export", "--format", form, "--out", form, *asked])
    return folder


@pytest.fixture(scope="module")
def module(run: Path) -> OctaviusModule:
    """The checkpoint itself."""
    return load(run / "checkpoints" / "last.ckpt")


def weights_of(module: OctaviusModule, question: str | None, task: str | None = None) -> Tensor:
    """The routing that is taken, which all layers share."""
    first, *others = fixed_gate(module, question, task).values()
    assert all(torch.equal(other, first) for other in others)
    return first


@pytest.fixture(scope="module")
def routed(module: OctaviusModule) -> Tensor:
    """Logits of the checkpoint's language model under the question's routing."""
    gate = weights_of(module, QUESTION)
    assert int((gate > 0).sum()) == 2
    with module.model.routing.use(gate.expand(2, -1)), torch.no_grad():
        return module.model.decoder.lm(IDS).logits


def test_each_folder_has_a_card_and_loads_by_the_code_in_it(run: Path, routed: Tensor) -> None:
    for form in ("hf", "peft", "experts"):
        card = ModelCard.load(run / form / "README.md")
        assert "octavius" in (card.data.tags or [])
        assert "| `coco_captioning` | train2017 | 1 |" in card.text
        (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
        found = dict[str, Any]()
        with contextlib.chdir(run):
            exec(code, found)
        assert found["model"](IDS).logits.shape == routed.shape
        if form != "experts":
            torch.testing.assert_close(found["model"](IDS).logits, routed, rtol=1e-4, atol=1e-4)
    adapter = AutoPeftModelForCausalLM.from_pretrained(run / "peft")
    torch.testing.assert_close(adapter(IDS).logits, routed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_an_export_answers_as_the_checkpoint(
    run: Path, module: OctaviusModule, miniature_root: Path, form: str
) -> None:
    exported = load(run / form)
    assert not exported.training
    pictures = sorted((miniature_root / "seen" / "coco" / "val2017").glob("*.jpg"))[:4]
    answers = []
    for picture in pictures:
        media = media_of(picture)
        answers.append(ask(module, QUESTION, media, max_new_tokens=8)[0])
        assert ask(exported, QUESTION, media, max_new_tokens=8)[0] == answers[-1]
        batch = module.processor.collate([example(module, picture)])
        losses = [one.model(batch).losses for one in (module, exported)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    assert len(set(answers)) > 1 or len(answers[0]) > 3


def example(module: OctaviusModule, picture: Path) -> Any:
    sample = Sample("s", "captioning", "b", media_of(picture), QUESTION, References(("a ball",)))
    return module.processor.build_example(sample, QUESTION, "a ball")


def test_transformers_loads_the_merged_folder(run: Path, routed: Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "hf")
    torch.testing.assert_close(model(IDS).logits, routed, rtol=1e-4, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    assert tokenizer("a red ball").input_ids
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_peft_loads_the_adapter(run: Path, routed: Tensor) -> None:
    base = AutoModelForCausalLM.from_pretrained(run / "models" / "language")
    plain = base(IDS).logits
    model: Any = PeftModel.from_pretrained(base, run / "peft")
    torch.testing.assert_close(model(IDS).logits, routed, rtol=1e-5, atol=1e-5)
    assert (routed - plain).abs().max() > 0.1
    assert model.peft_config["default"].r == 2 * 2


def test_the_experts_and_the_gate_make_the_mixture_again(
    run: Path, module: OctaviusModule, routed: Tensor
) -> None:
    base = AutoModelForCausalLM.from_pretrained(run / "models" / "language")
    model: Any = PeftModel.from_pretrained(base, run / "experts" / "expert0", adapter_name="expert0")
    for place in (1, 2):
        model.load_adapter(run / "experts" / f"expert{place}", adapter_name=f"expert{place}")
    assert {config.r for config in model.peft_config.values()} == {2}
    gate = weights_of(module, QUESTION).tolist()
    names = [f"expert{place}" for place in range(3)]
    model.add_weighted_adapter(names, gate, "mixed", combination_type="cat")
    model.set_adapter("mixed")
    torch.testing.assert_close(model(IDS).logits, routed, rtol=1e-5, atol=1e-5)
    found = load_file(run / "experts" / "gate.safetensors")
    assert module.model.gate is not None
    assert torch.equal(found["weight"], module.model.gate.weight)


def test_the_manifest_tells_what_it_is(run: Path, module: OctaviusModule) -> None:
    gate = weights_of(module, QUESTION)
    for form in ("hf", "peft", "experts"):
        manifest = json.loads((run / form / "manifest.json").read_text())
        assert manifest["format"] == form
        assert manifest["base"] == str(run / "models" / "language")
        assert manifest["model"]["init_args"]["encoders"]["image"]["init_args"]["name"]
        assert manifest["model"]["init_args"]["template"]["assistant"] == "\n### Assistant:"
        assert manifest["versions"].keys() == {"octavius", "torch", "transformers"}
        if form != "experts":
            assert manifest["question"] == QUESTION
            assert manifest["gate"] == pytest.approx(gate.tolist(), abs=1e-6)
        projectors = load_file(run / form / "projectors.safetensors")
        assert all(
            torch.equal(projectors[name], part) for name, part in module.model.projectors.state_dict().items()
        )


def test_a_task_is_the_mean_over_its_questions(module: OctaviusModule) -> None:
    forms = TASKS["detection"].questions
    expected = torch.stack([weights_of(module, form) for form in forms]).mean(0)
    torch.testing.assert_close(weights_of(module, None, "detection"), expected)


def test_predict_answers_from_a_folder_that_moved(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    words = ["--question", QUESTION, "--max_new_tokens", "5"]
    main(["predict", *words])
    expected = capsys.readouterr().out.splitlines()[0]
    for form in ("hf", "peft"):
        Path(form).rename(f"moved-{form}")
        try:
            main(["predict", "--ckpt", f"moved-{form}", *words])
        finally:
            Path(f"moved-{form}").rename(form)
        assert capsys.readouterr().out.splitlines() == [expected]


def test_one_expert_needs_no_question(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(run)
    one = options(model__init_args__lora__experts=1, checkpoint__dirpath=tmp_path)
    main(["fit", "--config", "small.yaml", "--data.init_args.validate", "[]", *one])
    checkpoint = str(tmp_path / "last.ckpt")
    main(["export", "--format", "peft", "--out", str(tmp_path / "one"), "--ckpt", checkpoint])
    assert json.loads((tmp_path / "one" / "adapter_config.json").read_text())["r"] == 2
    load(tmp_path / "one")


def break_manifest(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"frozen_fingerprint": "', '"frozen_fingerprint": "x'))


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def other_rank(folder: Path) -> None:
    config = folder / "manifest.json"
    content = json.loads(config.read_text())
    content["model"]["init_args"]["lora"]["rank"] = 7
    config.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (drop("manifest.json"), "is a folder without manifest.json"),
        (drop("projectors.safetensors"), "which holds the projectors; export again"),
        (drop("adapter_model.safetensors"), "has no adapter_model.safetensors"),
        (break_manifest, "or an encoder has other weights now"),
        (other_rank, r"is of another model. .*Other shapes: .*lora_A: \(4, 32\) in the file, \(7, 32\) here"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read: .*export again"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "it lacks base, format"),
        (lambda folder: (folder / "projectors.safetensors").write_text("x"), "cannot be read as tensors"),
    ],
)
def test_a_damaged_export_is_told(
    run: Path, tmp_path: Path, harm: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(run / "peft", folder)
    harm(folder)
    asked = ["predict", "--ckpt", str(folder), "--question", "What?"]
    assert re.search(rf"{said}|names it|not the file that was saved with the others", refused(asked, capsys))
    (folder / LIST).unlink()  # as exports of an earlier version
    text = refused(asked, capsys)
    assert re.search(said, text), text


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "projectors.safetensors", "manifest.json"])
def test_a_flipped_bit_in_an_export_is_told(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(run / "peft", folder)
    content = bytearray((folder / name).read_bytes())
    place = len(content) - 20 if name.endswith("tensors") else content.index(b"checkpoint") + 20
    content[place] ^= 1
    (folder / name).write_bytes(content)
    text = refused(["predict", "--ckpt", str(folder), "--question", "What?"], capsys)
    assert f"{name} is not the file that was saved with the others" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one by --question, or a task by --task, or export all"),
        (["--task", "juggling"], "there is no task 'juggling'; tasks are detection"),
        (["--task", "vqa"], "the questions of the task vqa come from its data"),
        (["--question", "x", "--out", "peft"], "peft exists already and is not empty"),
        (["--question", " "], "the question is empty"),
        (["--question", "x", "--ckpt", "peft"], "peft is a folder; export from a checkpoint"),
    ],
)
def test_what_cannot_be_exported_is_told(
    run: Path,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run)
    out = [] if "--out" in words else ["--out", "new"]
    assert said in refused(["export", "--format", "peft", *out, *words], capsys)
    assert not Path("new").exists()


def test_a_checkpoint_without_experts_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    whole = options(model__init_args__lora="null", checkpoint__dirpath=tmp_path)
    main(["fit", "--config", "small.yaml", "--data.init_args.validate", "[]", *whole])
    words = ["--format", "hf", "--question", "x", "--out", "new", "--ckpt", str(tmp_path / "last.ckpt")]
    assert "has no experts: its language model was trained whole" in refused(["export", *words], capsys)


def test_the_experts_alone_do_not_answer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--ckpt", str(run / "experts"), "--question", "What?"]
    assert "between which nothing chooses" in refused(words, capsys)


def test_files_for_llama_server_come_with_its_command(run: Path, module: OctaviusModule) -> None:
    folder = run / "gguf"
    exported = read_gate(folder)
    text = ModelCard.load(folder / "README.md").text
    assert f"llama-server --model {exported.base} --lora {','.join(exported.experts)} --port 8080" in text
    assert "octavius serve --backend llama-server --ckpt . --url" in text
    assert all((folder / name).is_file() for name in (exported.base, *exported.experts, "manifest.json"))
    assert not (folder / "projectors.safetensors").exists()
    weights = exported.weights(exported.prompts.tokenizer.encode(f" {QUESTION}"))
    assert weights == pytest.approx(weights_of(module, QUESTION).tolist(), abs=1e-6)


def test_files_for_llama_server_are_not_loaded_here(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--ckpt", str(run / "gguf"), "--question", QUESTION]
    assert "holds files for llama-server: start it" in refused(words, capsys)


@pytest.mark.usefixtures("module")
def test_an_export_for_llama_server_leaves_nothing_behind_where_it_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    words = ["export", "--format", "gguf", "--out"]
    assert "exists already and is not empty" in refused([*words, "gguf"], capsys)
    monkeypatch.setattr("octavius.llama_cpp.base.ARCHITECTURES", {})
    assert "the architecture llama cannot be written as GGUF" in refused([*words, "refused"], capsys)
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install 'octavius[gguf]'" in refused([*words, "refused"], capsys)
    assert not Path("refused").exists()


def test_other_commands_want_a_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(["test", "--ckpt", str(run / "peft")], capsys)
    assert "is a folder, expected the file of a checkpoint" in text


def test_a_target_that_cannot_be_written_is_found_before_the_model_is_loaded(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    Path("a file").touch()
    monkeypatch.setattr("octavius.checkpoint.export.experts_of", lambda *_: pytest.fail("loaded"))
    said = refused(["export", "--format", "experts", "--out", "a file/out"], capsys)
    assert "a file is a file, expected a folder" in said
