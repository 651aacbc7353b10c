"""Every preset: the command on its first line parses, trains a step, and scores a batch."""

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules.miniature.data import MiniatureClouds, MiniatureImages
from datamodules.miniature.pretraining.objects import MiniatureObjects
from datamodules.miniature.pretraining.scene_boxes import MiniatureSceneBoxes
from octavius.cli.lightning_cli import ConfigOnlyCLI, parse
from octavius.cli.main import main
from octavius.media.proposals import write_proposals
from octavius.plan.memory import parts
from octavius.plan.outline import outline, setup_of
from tests.tiny import ROOT, write_models
from tests.tiny_clouds import write_cloud_models
from tests.tiny_vision import write as write_vision_model

CONFIGS = ROOT / "configs"
PLANS = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob("comparisons/*.yaml")
    if path.read_text().startswith("# octavius compare ")
)
NAMES = sorted({path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")} - set(PLANS))

SHORT = {
    "logger": False,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "limit_test_batches": 1,
    "val_check_interval": 1.0,
}
"""One step and one batch of each evaluation."""

PAPER = [name for name in NAMES if name.startswith("paper/")]

PUBLISHED = {
    "paper/2d.yaml": (4, "1.6%"),
    "paper/3d.yaml": (3, "1.2%"),
    "paper/2d_3d.yaml": (6, "2.4%"),
    "paper/one_lora.yaml": (1, "0.4%"),
}
"""Experts, and their share of them and the language model: Table 4, and by the same count where it has no row."""

NOT_RUN = {"fsdp.yaml": "needs several processes: tests/octavius/test_processes.py"}
NOT_RUN |= dict.fromkeys(PAPER, "needs weights that are not shipped, and GPUs")


def command(name: str) -> list[str]:
    """The words after `octavius` on the first line of a preset."""
    words = shlex.split((CONFIGS / name).read_text().splitlines()[0])
    assert words[:3] == ["#", "octavius", "fit"], f"{name} should begin with the command that runs it"
    assert ("--config", name) in pairwise(words)
    return words[2:]


def overlay(name: str, models: Path, data: Path, rooms: Path) -> dict[str, Any]:
    """Settings that put tiny models, data and runs in the place of those of a preset."""
    decoder = {
        "init_args": {"name": str(models / "language"), "compile": False}
    }  # takes longer than the step
    image = {"class_path": "ImageEncoder", "init_args": {"name": str(models / "clip"), "pretrained": None}}
    few = {"workers": 0, "batch_size": 4}
    asked = few | {"eval_batch_size": 4}
    miniature = asked | {"root": str(data)}
    one = {"benchmark": "scienceqa", "folder": "seen/scienceqa"}
    # A preset on top of 2d.yaml has its sources; reading them once is enough.
    one_each = {"train": [{**one, "split": "train"}], "validate": [{**one, "split": "val"}]}
    one_each["test"] = [{**one, "split": "test"}]
    clouds = {"root": str(rooms)}
    cloud = {"points": str(models / "points"), "cache": "roi-features"}
    if name != "ablations/true_boxes_3d.yaml":
        cloud["proposals"] = str(models / "detector")
    scene = {"decoder": decoder, "encoders": {"cloud": {"init_args": cloud}}, "projectors": None}
    both = {"images": {"init_args": {"root": str(data)}}, "clouds": {"init_args": clouds}}
    parts = {
        "3d.yaml": (scene, asked | clouds),
        "2d_3d.yaml": (scene | {"encoders": scene["encoders"] | {"image": image}}, asked | both),
        "pretrain/clip.yaml": ({"model": str(models / "clip")}, few | {"probe_pictures": 8}),
        "pretrain/clip_rooms.yaml": ({}, few | {"probe_views": 8}),
        "pretrain/detector.yaml": ({}, few | clouds),
        "pretrain/points.yaml": ({"image_weight": 0.0}, asked | clouds),
        "pretrain/language.yaml": ({"decoder": decoder}, asked | {"eval_count": 2}),
        "pretrain/language_rooms.yaml": (
            {"decoder": decoder, "projectors": None},
            asked | {"eval_count": 1},
        ),
        "conventions": (
            {"decoder": decoder, "projectors": None},
            asked | {"eval_scenes": 1, "train_scenes": 20},
        ),
        "vlm.yaml": ({"decoder": {"init_args": {"name": str(models / "vision")}}}, asked),
        "coco": ({"decoder": decoder, "encoders": {"image": image}}, asked),
        "2d.yaml": ({"decoder": decoder, "encoders": {"image": image}}, miniature),
        "": ({"decoder": decoder, "encoders": {"image": image}}, miniature | one_each),
    }
    words = command(name)
    base = words[words.index("--config") + 1]
    key = base if base.endswith("3d.yaml") else name
    model, sources = next(part for begin, part in parts.items() if key.startswith(begin))
    return {
        "trainer": SHORT,
        "model": {"init_args": model},
        "data": {"init_args": sources},
        "evaluation": {"max_new_tokens": 3},
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_cloud_models(write_models(tmp_path_factory.mktemp("models")))
    write_vision_model("smolvlm", folder / "vision")
    return folder


@pytest.fixture(autouse=True)
def nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixtures' small miniature is read as it is, where a preset would write a whole one."""
    for kind in (MiniatureImages, MiniatureClouds, MiniatureObjects, MiniatureSceneBoxes):
        monkeypatch.setattr(kind, "prepare_data", lambda self: None)  # noqa: ARG005


def test_there_are_presets() -> None:
    assert {
        "2d.yaml",
        "3d.yaml",
        "2d_3d.yaml",
        "fsdp.yaml",
        "pretrain/clip.yaml",
        "pretrain/language.yaml",
    } <= set(NAMES)


@pytest.mark.parametrize("name", ["fsdp.yaml", "paper/2d_3d.yaml"])
def test_its_command_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command(name), "--print_config"])
    assert end.value.code == 0, capsys.readouterr().err
    assert {"model", "data", "trainer"} <= set(yaml.safe_load(capsys.readouterr().out))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "2d_3d" in name else [pytest.mark.slow]) for name in PAPER]
)
def test_a_set_up_of_the_paper_parses_and_has_its_shape(name: str) -> None:
    setup = setup_of(parse(ConfigOnlyCLI, "plan", command(name)[1:]).config)
    model = outline(setup)
    assert model.lora is not None
    experts, width = model.lora.experts, model.decoder.width
    table = parts(model)
    adapters = sum(part.numel() for name, part in model.named_parameters() if "lora_" in name)
    assert table["LoRA experts"] == (adapters, adapters)
    if name in PUBLISHED:
        assert width == 5120
        assert adapters == experts * 52_428_800  # 160 layers x 2 x 5120 x 32
        share = adapters / (adapters + table["language model"][0])
        assert (experts, f"{share:.1%}") == PUBLISHED[name]
    assert setup.sharded is not setup.vision
    assert setup.batch_size * setup.accumulate * 8 == 64
    assert setup.samples_per_epoch is not None
    if "image" in model.projectors:
        assert table["projector image"] == (1025 * width, 1025 * width)


QUICK_ABLATIONS = {"individual"}
"""Ablations of 2d.yaml that are run in the quick tests; the others differ from these in numbers."""


def takes_long(name: str) -> bool:
    """Whether a preset is run with the slow tests: all but one of each kind.

    2d_3d.yaml stands for 2d.yaml and 3d.yaml here, as it trains on what both train on.
    """
    if name.startswith("ablations/") and Path(name).stem not in QUICK_ABLATIONS:
        return True
    names = [word for word in command(name) if word.endswith(".yaml")]
    return (
        (len(names) > 1 and "3d.yaml" in names[0])
        or name.endswith("_rooms.yaml")
        or name in ("2d.yaml", "3d.yaml")
        or name.startswith(("comparisons/", "conventions/"))
        or (name.startswith("pretrain/") and name != "pretrain/clip.yaml")
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if takes_long(name) else [])
        for name in NAMES
        if name not in NOT_RUN
    ],
)
def test_its_command_trains_a_step_and_scores_a_batch(
    name: str,
    models: Path,
    miniature_root: Path,
    few_rooms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "ablations/found_boxes_3d.yaml":  # a box a scan, as a detector leaves them
        for mesh in (few_rooms / "seen" / "scans").glob("*/*.ply"):
            box = torch.tensor([[0.0, 0.0, 1.0, 8.0, 8.0, 4.0]])
            write_proposals(few_rooms / "seen" / "proposals" / f"{mesh.parent.name}.npz", box, torch.ones(1))
    Path("tiny.yaml").write_text(yaml.safe_dump(overlay(name, models, miniature_root, few_rooms)))
    words = [word.replace("PATH_TO_COCO", str(miniature_root / "seen" / "coco")) for word in command(name)]
    main([*words, "--config", "tiny.yaml"])
    (checkpoint,) = Path("checkpoints").rglob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1
    last = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: octavius ")]
    assert len(last) == 1
    if words.count("--config") > 1:  # what lies over another preset is tested as that one is
        return
    main(shlex.split(last[0])[2:])
    assert "0." in capsys.readouterr().out  # a table of scores
    if name == "2d_3d.yaml":
        [mesh, *_] = sorted((few_rooms / "seen" / "scans").glob("*/*.ply"))
        about = ["--cloud", str(mesh), "--max_new_tokens", "3"]
        main(["predict", "--question", "What is in the room?", *about])
        main(["predict", "--question", "What is this?", "--box", "1 1 0.5 4 4 1", *about])
        assert capsys.readouterr().out.count("experts: ") == 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "comparisons/conventions.yaml" else [pytest.mark.slow])
        for name in PLANS
    ],
)
def test_the_arms_of_a_comparison_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = (CONFIGS / name).read_text().splitlines()[0]
    assert first == f"# octavius compare --plan {name}"
    main(["compare", "--plan", name, "--seeds", "1", "--print_commands"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(yaml.safe_load((CONFIGS / name).read_text())["arms"])
    for line in lines:
        fit, _, test = line.partition(" && ")
        assert test.startswith("octavius test --ckpt ")
        with pytest.raises(SystemExit) as end:
            main([*shlex.split(fit)[1:], "--print_config"])
        assert end.value.code == 0, capsys.readouterr().err
        capsys.readouterr()
