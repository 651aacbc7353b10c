"""Configurations that came with a checkpoint cannot make the process import or call what they name."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from jsonargparse import ArgumentError, Namespace

from octavius.checkpoint.load import load
from octavius.checkpoint_format.configuration import Configuration
from octavius.cli.arguments import resolve
from octavius.cli.main import main
from octavius.configuration.parser import LightningParser
from octavius.configuration.rules import merging_rules
from octavius.configuration.trust import LISTED, first_address, is_listed, is_octavius_subclass
from octavius.encoders.base import Encoder
from octavius.lora_moe.gates.factory import class_path
from tests.tiny import ROOT, refused, settings, write_models

FOREIGN = "foreign_module"
SOURCE = """\
from pathlib import Path
from octavius.encoders.image import ImageEncoder
Path(__file__).with_name("imported").touch()
class Own(ImageEncoder):
    pass
def call(*arguments):
    Path(__file__).with_name("called").touch()
"""
OWN, CALL, MODEL = f"{FOREIGN}.Own", f"{FOREIGN}.call", "octavius.training.OctaviusModule"
SPEC = {"class_path": OWN}


def callback(name: str, **own: Any) -> dict[str, Any]:
    return {"trainer": {"callbacks": [{"class_path": name, "init_args": own}]}}


def model(**changed: Any) -> dict[str, Any]:
    decoder = {"class_path": "Decoder", "init_args": {"name": "x"}}
    return {"model": {"class_path": MODEL, "init_args": {"decoder": decoder, "encoders": {}, **changed}}}


def data(**changed: Any) -> dict[str, Any]:
    return {"data": {"class_path": "ImageInstructions", "init_args": {"root": "r", **changed}}}


ATTACKS: dict[str, dict[str, Any]] = {
    "a callback that calls": callback("LambdaCallback", setup=CALL),
    "by its whole name": callback("lightning.pytorch.callbacks.LambdaCallback"),
    "a function of the system": callback("LambdaCallback", setup="os.system"),
    "a function for a listed class": callback("StochasticWeightAveraging", swa_lrs=0.1, avg_fn=CALL),
    "another callback": {"trainer": {"callbacks": SPEC}},
    "text": {"trainer": {"callbacks": OWN}},
    "text in a list": {"trainer": {"callbacks": [OWN]}},
    "a dotted key": {"trainer.callbacks": [SPEC]},
    "appended": {"trainer": {"callbacks+": SPEC}},
    "appended by a dotted key": {"trainer.callbacks+": OWN},
    "YAML in text": {"trainer": {"callbacks": f"[{{class_path: {OWN}}}]"}},
    "a strategy": {"trainer": {"strategy": SPEC}},
    "a logger": {"trainer": {"logger": [SPEC]}},
    "a plugin": {"trainer": {"plugins": [OWN]}},
    "a profiler": {"trainer": {"profiler": OWN}},
    "a model": {"model": SPEC},
    "a model as text": {"model": OWN},
    "a function that makes a model": {
        "model": {"class_path": "octavius.checkpoint.load.load", "init_args": {"path": "x", "trust": True}}
    },
    "a method of a listed class": {"model": {"class_path": f"{MODEL}.load_from_checkpoint"}},
    "through a listed module": callback("lightning.pytorch.callbacks.model_checkpoint.os.system"),
    "the parser itself": callback("jsonargparse.set_parsing_settings"),
    "data": {"data": SPEC},
    "a processor": data(processor=SPEC),
    "a decoder": model(decoder=SPEC),
    "an encoder": model(encoders={"image": SPEC}),
    "an encoder as text": model(encoders={"image": OWN}),
    "experts": model(lora=SPEC),
    "a gate": model(lora={"gate": SPEC}),
    "a gate as text": model(lora={"gate": OWN}),
    "a template": model(template=SPEC),
    "sampling": {"evaluation": {"sampling": SPEC}},
    "a logger on the network": {"trainer": {"logger": {"class_path": "WandbLogger"}}},
    "a folder on the network": {"checkpoint": {"dirpath": "s3://somebody/else"}},
    "a chain of addresses": callback("ModelCheckpoint", dirpath="simplecache::s3://a"),
    "another file": {"config": "other.yaml"},
}
COMPLETE = [
    "--model=OctaviusModule",
    "--model.decoder=Decoder",
    "--model.decoder.name=x",
    "--model.encoders={}",
]
COMPLETE += ["--data=ImageInstructions", "--data.root=r"]


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module that leaves a trace when it is imported, and when it is called."""
    (tmp_path / f"{FOREIGN}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop(FOREIGN, None)


def given(parser: LightningParser, content: dict[str, Any], *words: str) -> Namespace:
    """What is parsed of a configuration that came with a checkpoint, and of words."""
    parser.untrusted = Configuration(yaml.safe_dump(content), "last.yaml")
    with merging_rules():
        return parser.parse_args(["--config", parser.untrusted.text, *words])


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("content", ATTACKS.values(), ids=ATTACKS.keys())
def test_nothing_is_imported_or_called_that_a_checkpoints_configuration_names(
    content: dict[str, Any], parser: LightningParser
) -> None:
    with pytest.raises((ValueError, ArgumentError), match=r"last.yaml names \S+"):
        given(parser, content, *COMPLETE)
    assert FOREIGN not in sys.modules
    assert not Path("imported").exists()
    assert not Path("called").exists()


@pytest.mark.usefixtures("foreign")
def test_where_text_is_meant_a_name_stays_text(parser: LightningParser) -> None:
    value = dict.fromkeys(("strategy", "accelerator", "default_root_dir"), OWN)
    found = given(parser, {"trainer": value}, *COMPLETE).trainer
    assert {key: found[key] for key in value} == value
    assert not Path("imported").exists()


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("name", ["3d", "fsdp", "pretrain/detector", "pretrain/clip", "pretrain/points"])
def test_what_octavius_ships_may_lie_beside_a_checkpoint(name: str, parser: LightningParser) -> None:
    content = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    for stage in ("train", "validate", "test"):  # one source of each says as much as fifty
        if sources := content.get("data", {}).get("init_args", {}).get(stage):
            content["data"]["init_args"][stage] = sources[:1] if isinstance(sources, list) else sources
    given(parser, content, *([] if "model" in content else COMPLETE))


def test_the_list_holds_classes_alone_and_all_of_ours_that_a_run_is_made_of() -> None:
    for module, classes in LISTED.items():
        for name in classes:
            assert isinstance(getattr(import_module(module), name), type), f"{module}.{name}"
    bases = {"InstructionDataModule", "SourceInstructions", "BenchmarkSets", "_Files", "ClipTraining"}
    missing = {
        one.__name__
        for base in (L.LightningModule, L.LightningDataModule, Encoder)
        for one in subclasses(base)
        if one.__module__.startswith(("octavius.", "datamodules."))
        and not (is_listed(f"{one.__module__}.{one.__qualname__}") or is_octavius_subclass(class_path(one)))
    }
    assert missing <= {*bases, "DecoderOutline"}


@pytest.mark.parametrize(
    "name",
    [
        "octavius.lora_moe.gates.cluster.ClusterGate",
        "octavius.lora_moe.gates.ClusterGate",
        "octavius.encoders.image.ImageEncoder",
    ],
)
def test_encoders_and_gates_of_octavius_are_known_by_their_base_class(name: str) -> None:
    assert is_octavius_subclass(name)


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize(
    "name",
    [
        OWN,
        CALL,
        "octavius.checkpoint.load.load",
        "octavius.model.Octavius",
        "octavius.encoders.image.nn.Linear",
        "octavius.encoders.image.ImageEncoder.prepare",
        "octavius.nowhere.Gate",
        "octaviusx.Gate",
        "os.system",
        "Gate",
    ],
)
def test_nothing_else_is(name: str) -> None:
    assert not is_octavius_subclass(name)
    assert not Path("imported").exists()


def subclasses(base: type) -> Iterator[type]:
    for one in base.__subclasses__():
        yield one
        yield from subclasses(one)


@pytest.mark.parametrize(
    "text", ["C:\\runs", "a: b", "runs/x", "val/vqa", "1:2", "//server", "Is it? no: yes"]
)
def test_what_is_no_address(text: str) -> None:
    assert first_address({"a": [{"b": text}]}) is None


def test_what_users_write_themselves_may_name_anything() -> None:
    assert resolve(["--config", "2d.yaml", "--trainer.callbacks", "a.b"]).untrusted is None


def test_a_class_of_the_users_own_trains_and_goes_on_with_trust(
    foreign: Path,
    tmp_path_factory: pytest.TempPathFactory,
    miniature_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = settings(write_models(tmp_path_factory.mktemp("models")), miniature_root)
    small["model"]["init_args"]["encoders"]["image"]["class_path"] = OWN
    small["trainer"] |= {"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1}
    Path("own.yaml").write_text(yaml.safe_dump(small))
    main(["fit", "--config", "own.yaml"])
    (foreign / "imported").unlink()
    sys.modules.pop(FOREIGN)
    question = ["--question", "What is it?"]
    for words in (
        ["test", "--ckpt", "last.ckpt"],
        ["plan", "--ckpt", "last.ckpt"],
        ["predict", *question],
        ["export", "--out", "x", "--format", "hf", *question],
    ):
        said = refused(words, capsys)
        assert f"names {OWN}, and came with a checkpoint" in said
        assert "--trust" in said
    assert not (foreign / "imported").exists()
    main(["test", "--ckpt", "last.ckpt", "--trust"])
    main(["predict", *question, "--trust", "--max_new_tokens", "2"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"format": "hf", "format": "peft"}', "there twice"),
        ("[1]", "lacks"),
        ("3", "cannot be read"),
        ('{"format": "hf", "base": 1, "model": [], "frozen_fingerprint": 1}', "no mapping"),
        ('{"format": "hf", "base": 1, "model": {}, "frozen_fingerprint": 1}', "names no decoder"),
        (
            '{"format": "hf", "base": 1, "model": {"init_args": 3}, "frozen_fingerprint": 1}',
            "names no decoder",
        ),
    ],
    ids=lambda text: text[:20],
)
def test_a_manifest_that_says_nothing_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        load(tmp_path)


def test_a_manifest_that_came_from_elsewhere_imports_nothing(foreign: Path) -> None:
    manifest = {"format": "peft", "base": "x", "model": SPEC, "frozen_fingerprint": "0"}
    (foreign / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"names {OWN}, and came with a checkpoint"):
        load(foreign)
    assert not Path("imported").exists()
