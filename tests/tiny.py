"""Tiny models on disk, settings for them, and helpers for the output of failing commands."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from octavius.cli.main import main
from octavius.encoders.image import CONFIG, WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "checkpoints" / "miniature"


def write_models(folder: Path) -> Path:
    """A language model in `language` and a CLIP in `clip`: the shipped ones in little, weights at random."""
    torch.manual_seed(0)
    shape = AutoConfig.from_pretrained(SHIPPED / "language", hidden_size=32, num_hidden_layers=2, head_dim=8)
    shape.intermediate_size = 48
    LlamaForCausalLM(shape).save_pretrained(folder / "language")
    AutoTokenizer.from_pretrained(SHIPPED / "language").save_pretrained(folder / "language")
    config = json.loads((SHIPPED / "clip" / CONFIG).read_text())
    config["model_cfg"]["embed_dim"] = 12
    config["model_cfg"]["vision_cfg"] |= {"width": 32, "layers": 2, "head_width": 16}
    config["model_cfg"]["text_cfg"] |= {"width": 16, "heads": 2, "layers": 1}
    (folder / "clip").mkdir()
    (folder / "clip" / CONFIG).write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{folder / 'clip'}", load_weights=False)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "clip" / WEIGHTS)
    return folder


def options(**values: object) -> list[str]:
    """Words of a command line: `trainer__max_epochs=1` for `--trainer.max_epochs 1`."""
    return [word for key, value in values.items() for word in (f"--{key.replace('__', '.')}", str(value))]


def settings(models: Path, data: Path) -> dict[str, Any]:
    """A configuration of few sources and few steps, to be changed and written down as YAML."""
    decoder = {"class_path": "Decoder", "init_args": {"name": str(models / "language")}}
    encoder = {"class_path": "ImageEncoder", "init_args": {"name": str(models / "clip")}}
    source = {"benchmark": "coco_captioning", "folder": "seen/coco"}
    return {
        "model": {
            "class_path": "OctaviusModule",
            "init_args": {
                "decoder": decoder,
                "encoders": {"image": encoder},
                "lora": {"experts": 3, "rank": 2},
                "lr": 0.125,
            },
        },
        "data": {
            "class_path": "ImageInstructions",
            "init_args": {
                "root": str(data),
                "batch_size": 4,
                "samples_per_epoch": 8,
                "workers": 0,
                "train": [{**source, "split": "train2017"}],
                "validate": [{**source, "split": "val2017", "limit": 4}],
                "test": [{**source, "split": "test2017", "limit": 4}],
            },
        },
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "evaluation": {"max_new_tokens": 4},
    }


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message with which a command ends; asserts that it is one, and no stack."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(words)
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert "Traceback" not in out + err
    assert err.count("octavius: error: ") == 1, err
    before, _, text = err.partition("octavius: error: ")
    assert "Error" not in before, before
    return text.strip()
