"""The parser of `octavius fit`, built once."""

from typing import Any
from unittest.mock import MagicMock

import pytest
from jsonargparse import Namespace

import octavius.cli.classes  # noqa: F401 - the classes that have short names
from octavius.cli.lightning_cli import ConfigOnlyCLI, parse
from octavius.configuration.parser import LightningParser


def parse_nothing(cli: ConfigOnlyCLI, *_: Any) -> None:
    cli.config = Namespace()


@pytest.fixture(scope="session")
def parser() -> LightningParser:
    """The parser of `octavius fit`, which takes a second to build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigOnlyCLI, "parse_arguments", parse_nothing)
        patch.setattr(ConfigOnlyCLI, "_set_seed", MagicMock())
        made: LightningParser = parse(ConfigOnlyCLI, "fit", []).parser
    return made
