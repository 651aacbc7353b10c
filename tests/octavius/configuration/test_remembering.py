"""Remembered arguments of nested classes are those that jsonargparse parses."""

import pytest

from octavius.cli.lightning_cli import ConfigOnlyCLI, parse
from octavius.configuration import rules

COMMANDS = {
    "merged": ["--config", "2d.yaml", "--model.lora.rank", "7", "--trainer.callbacks+", "EarlyStopping"],
    "another gate": ["--config", "2d.yaml", "--model.init_args.lora.gate", "token"],
    "another encoder": [
        "--config",
        "2d.yaml",
        "--model.init_args.encoders",
        "{image: {class_path: Precomputed}}",
    ],
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_configuration_is_that_of_jsonargparse(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed() -> str:
        try:
            return repr(parse(ConfigOnlyCLI, "fit", COMMANDS[case]).config)
        except (ValueError, SystemExit) as error:
            return repr(error)

    remembered = parsed()
    monkeypatch.setattr(rules, "memoized", lambda adapt_class: adapt_class)
    assert remembered == parsed()
