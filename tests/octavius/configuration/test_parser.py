"""The parser takes what Lightning ships, with defaults of any kind."""

import inspect
import json

import pytest
import yaml
from lightning.pytorch import callbacks

from octavius.configuration.parser import LightningParser
from octavius.configuration.rules import merging_rules
from tests.octavius.configuration.test_gate_options import COMPLETE

ABSTRACT = {"Callback", "Checkpoint", "ProgressBar", "BasePredictionWriter", "BaseFinetuning"}


def simple(module: object) -> list[str]:
    """Names of the classes of a module that can be made without arguments, which need no other package."""
    found = []
    for name in module.__all__:  # type: ignore[attr-defined]
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        needed = [
            one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_KEYWORD,)
        ]
        if name not in ABSTRACT and not [one for one in needed if one.kind is not one.VAR_POSITIONAL]:
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *(("callbacks", name) for name in simple(callbacks)),
        ("logger", "TensorBoardLogger"),
        ("logger", "CSVLogger"),
    ],
)
def test_a_class_of_lightning_is_taken_with_its_defaults(
    parser: LightningParser, option: str, name: str
) -> None:
    given = {"class_path": name, "init_args": {"save_dir": "runs"} if option == "logger" else {}}
    with merging_rules():
        found = parser.parse_args([*COMPLETE, f"--trainer.{option}", json.dumps([given])])
        text = parser.dump(found, skip_validation=True)
    assert yaml.safe_load(text)["trainer"][option][0]["class_path"].endswith(f".{name}")
