"""Checkpoints and exports of earlier versions are loaded by the same rules."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentError

from octavius.checkpoint.load import build, load
from octavius.cli.main import main
from octavius.lora_moe.gates import GATES
from tests.octavius.settings import EARLIER_LORA
from tests.tiny import refused, settings, write_models


def test_a_checkpoint_of_an_earlier_version_is_scored_answers_and_leaves(
    tmp_path: Path, miniature_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = settings(write_models(tmp_path / "models"), miniature_root)
    small["trainer"] |= {"limit_train_batches": 1, "limit_val_batches": 0, "limit_test_batches": 1}
    Path("small.yaml").write_text(yaml.safe_dump(small))
    main(["fit", "--config", "small.yaml"])
    beside = Path("checkpoints/last.yaml")
    line, _, rest = beside.read_text().partition("\n")
    content = yaml.safe_load(rest)
    content["model"]["init_args"]["lora"] = EARLIER_LORA
    beside.write_text(f"{line}\n{yaml.safe_dump(content)}")
    module = load(Path("checkpoints/last.ckpt"))
    assert type(module.model.gate) is GATES["instance"]
    main(["test", "--ckpt", "last.ckpt"])
    main(["export", "--question", "What is it?", "--format", "peft", "--out", "adapter"])
    assert "experts: " in capsys.readouterr().out
    text = Path("adapter/manifest.json").read_text()
    assert '"experts": 1' in text
    Path("adapter/manifest.json").write_text(text.replace('"experts": 1', '"experts": 1, "top_k": 1'))
    Path("adapter/sha256.json").unlink()
    load(Path("adapter"))
    beside.unlink()
    assert "is gate.init_args.top_k now" in refused(
        ["test", "--ckpt", "last.ckpt", "--model.lora.top_k", "1"], capsys
    )


def test_a_section_of_an_export_is_built_by_the_same_rules() -> None:
    with pytest.raises(ArgumentError, match=r"top_k is gate\.init_args\.top_k now"):
        build({"class_path": "octavius.training.OctaviusModule", "init_args": {"lora": {"top_k": 1}}}, None)
