"""A configuration of tiny models to plan for."""

import json
from pathlib import Path

import pytest
import yaml

from octavius.plan.outline import Setup
from tests.tiny import settings, write_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of tiny models without data, in `plan.yaml`."""
    home = tmp_path_factory.mktemp("plan")
    config = settings(write_models(home), home)
    (home / "plan.yaml").write_text(yaml.safe_dump(config))
    shape = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 4}
    shape |= {"num_attention_heads": 4, "vocab_size": 1000}
    (home / "shape").mkdir()
    (home / "shape" / "config.json").write_text(json.dumps(shape))
    return home


@pytest.fixture
def setup(folder: Path) -> Setup:
    lora = {"experts": 2, "rank": 4, "targets": ["q_proj"]}
    decoder = {"name": str(folder / "shape")}
    return Setup(decoder, {}, lora, False, 64, False, "32-true", False, 8, 1, 3, -1, 320)
