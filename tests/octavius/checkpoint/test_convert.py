"""Imported files of other programs are the start of fit, test and predict."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from octavius.checkpoint.load import load
from octavius.cli.main import main
from octavius.lora_moe.merge import layers_of
from tests.octavius import published_code as published
from tests.selection import mostly_slow
from tests.tiny import SHIPPED, refused, settings, write_models

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2]])
PUBLISHED = [
    "import",
    "model.pt",
    "--config",
    "small.yaml",
    "--config",
    "published.yaml",
    "--config",
    "lora.yaml",
]
ADAPTER = ["import", "adapter", "--config", "small.yaml"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> Path:
    """A folder with a configuration, a fabricated published checkpoint and a LoRA of PEFT."""
    folder = tmp_path_factory.mktemp("import")
    small = settings(write_models(folder / "models"), miniature_root)
    untied = folder / "models" / "untied"
    config = AutoConfig.from_pretrained(folder / "models" / "language", tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(untied)
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "language")
    tokenizer.save_pretrained(untied)
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    lora = {"experts": 3, "rank": 2, "gate": "published", "scale": "published", "init": "published"}
    decoder = {"init_args": {"name": str(untied)}}
    model = {"init_args": {"decoder": decoder, "lora": lora}}
    (folder / "lora.yaml").write_text(yaml.safe_dump({"model": model, "evaluation": {"max_new_tokens": 4}}))
    base = LlamaForCausalLM.from_pretrained(untied)
    image = json.loads((folder / "models" / "clip" / "open_clip_config.json").read_text())
    width = image["model_cfg"]["vision_cfg"]["width"]
    tags = ["<Img>", "</Img>", "<XSFQ/>"]
    tokenizer.add_tokens(tags)
    torch.save(published.fabricate(base, len(tokenizer), 3, 2, width, 0), folder / "model.pt")
    torch.manual_seed(5)
    peft: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder / "models" / "language"),
        LoraConfig(r=2, lora_alpha=5, target_modules=TARGETS, init_lora_weights=False),
    )
    peft.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_a_run_starts_from_a_published_checkpoint(
    tmp_path: Path, miniature_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start.ckpt"
    main([*PUBLISHED, "--out", str(start)])
    assert f"octavius fit --ckpt {start}" in capsys.readouterr().out
    state = torch.load("model.pt", weights_only=True)
    module = load(start)
    layer: Any = module.model.decoder.lm.get_submodule("model.layers.1.self_attn.k_proj")
    name = f"{published.LLM}model.layers.1.self_attn.k_proj.lora_moe_"
    x = torch.randn(2, 3, layer.in_features)
    with layer.routing.use(torch.tensor([[0.0, 1.0, 0.0]] * 2)), torch.no_grad():
        change = layer(x) - layer.base(x)
    torch.testing.assert_close(
        change, x @ state[f"{name}A.default"][1] @ state[f"{name}B.default"][1], rtol=1e-4, atol=1e-5
    )
    assert torch.equal(module.model.projectors["image"].linear.weight, state["llama_proj.weight"])
    [picture, *_] = sorted((miniature_root / "seen" / "coco" / "val2017").glob("*.jpg"))
    about = ["--image", str(picture), "--question", "What is this?", "--max_new_tokens", "3"]
    main(["predict", "--ckpt", str(start), *about])
    assert "experts: " in capsys.readouterr().out
    main(["test", "--ckpt", str(start)])
    fit = [
        "fit",
        "--ckpt",
        str(start),
        "--data.init_args.validate",
        "[]",
        "--checkpoint.dirpath",
        str(tmp_path),
    ]
    main([*fit, "--model.init_args.lr", "1e-9"])
    went_on = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert went_on["global_step"] == 2
    begun = torch.load(start, weights_only=True)["state_dict"]
    assert set(went_on["state_dict"]) == set(begun)
    for key, tensor in begun.items():  # two steps of next to no learning rate from the file's weights
        torch.testing.assert_close(went_on["state_dict"][key], tensor, rtol=1e-4, atol=1e-6)


def test_a_lora_becomes_the_first_expert(tmp_path: Path) -> None:
    start = tmp_path / "start.ckpt"
    main([*ADAPTER, "--out", str(start)])
    module = load(start)
    lm = module.model.decoder.lm
    with module.model.routing.use(torch.tensor([[1.0, 0.0, 0.0]] * 2)), torch.no_grad():
        logits = lm(IDS).logits
    base = AutoModelForCausalLM.from_pretrained("models/language")
    theirs: Any = PeftModel.from_pretrained(base, "adapter")
    torch.testing.assert_close(logits, theirs(IDS).logits, rtol=1e-5, atol=1e-5)
    with module.model.routing.use(torch.tensor([[0.0, 0.5, 0.5]] * 2)), torch.no_grad():
        others = lm(IDS).logits
    with theirs.disable_adapter():
        torch.testing.assert_close(others, theirs(IDS).logits, rtol=1e-5, atol=1e-5)
    assert all(layer.lora_A[2:].abs().min() > 0 for layer in layers_of(lm).values())


def adapter(folder: Path, **changes: Any) -> None:
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def without(part: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: [state.pop(name) for name in [*state] if part in name]


@pytest.mark.parametrize(
    ("options", "said"),
    mostly_slow(
        [
            (["--model.init_args.lora.rank", "1"], r"up to 2, the experts have rank 1; set lora\.rank: 2"),
            (
                ["--model.init_args.lora.targets", "[q_proj]"],
                r"is of other layers.*\['k_proj', 'o_proj', 'q_proj', 'v_proj'\]",
            ),
            (
                ["--model.init_args.decoder.init_args.name", "models/untied"],
                "or say by --base .*language that they are the same",
            ),
            (["--model.init_args.lora", "null"], "the configuration has no experts to fill"),
            (["--out", "small.yaml"], "small.yaml exists already"),
        ],
        3,
    ),
)
def test_an_adapter_that_does_not_fit_is_told(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--out" in options else ["--out", str(tmp_path / "start.ckpt")]
    text = refused([*ADAPTER, *out, *options], capsys)
    assert re.search(said, text), text
    assert not (tmp_path / "start.ckpt").exists()


def test_the_same_base_by_another_name_is_taken_when_told(tmp_path: Path) -> None:
    name = json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"]
    renamed = ["--model.init_args.decoder.init_args.name", "models/untied", "--base", name]
    main([*ADAPTER, "--out", str(tmp_path / "start.ckpt"), *renamed])
    assert (tmp_path / "start.yaml").is_file()


@pytest.mark.parametrize(
    ("harm", "said"),
    mostly_slow(
        [
            (without("lora_moe_"), "is no published checkpoint of Octavius: expected tensors such as"),
            (without("w_gating"), "the file has no gating_network.w_gating"),
            (
                without("llama_proj."),
                r"holds no tensors of the image projector, but .* has \['image'\]",
            ),
            (without("llama_proj.bias"), r"Missing in the file: linear\.bias"),
            (without("lm_head"), r"Missing in the file: lm_head\.weight"),
            (
                lambda state: state.update({"bert.weight": torch.ones(1)}),
                "holds bert.weight, which no published",
            ),
            (
                lambda state: state.update({"llama_proj_3d.1.bias": torch.ones(1)}),
                "holds tensors of the cloud projector, but the configuration has none",
            ),
            (
                lambda state: state.update({f"{published.LLM}lm_head.weight": torch.ones(7, 32)}),
                "lm_head.weight has 7 rows in the file, and .* here",
            ),
            (
                lambda state: state.update(
                    {name: part[:2] for name, part in state.items() if ".lora_moe_" in name}
                ),
                "experts by width by rank, but the configuration has 3 experts of rank 2; set lora.experts",
            ),
            (lambda state: state.update(state_dict={}), "is a checkpoint of this program already"),
        ],
        5,
    ),
)
def test_a_published_checkpoint_that_does_not_fit_is_told(
    harm: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load("model.pt", weights_only=True)
    harm(state)
    torch.save(state, tmp_path / "model.pt")
    words = [*PUBLISHED, "--out", str(tmp_path / "start.ckpt")]
    words[1] = str(tmp_path / "model.pt")
    text = refused(words, capsys)
    assert re.search(said, text), text


def test_the_switches_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*PUBLISHED, "--out", str(tmp_path / "start.ckpt")]
    assert "set tag_tokens: true" in refused([*words, "--model.init_args.tag_tokens", "false"], capsys)
    text = refused([*words, "--model.init_args.lora.gate", "instance"], capsys)
    assert "set lora.gate: published" in text


def test_what_is_no_such_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--config", "small.yaml", "--out", str(tmp_path / "start.ckpt")]
    assert "there is no " in refused(["import", "nothing.pt", *out], capsys)
    (tmp_path / "x.pt").write_text("x")
    assert "expected a published checkpoint of Octavius (.pt), or a folder" in refused(
        ["import", str(tmp_path / "x.pt"), *out], capsys
    )
    assert "cannot be read" in refused(["import", str(tmp_path), *out], capsys)
    assert "model and data are missing" in refused(["import", "model.pt", "--out", "new.ckpt"], capsys)
    with contextlib.suppress(SystemExit):
        main(["import", "--help"])
    assert "become experts 0, 1" in " ".join(capsys.readouterr().out.split())
