"""The parser of `octavius fit`, built once."""

from typing import Any
from unittest.mock import MagicMock

import pytest
from jsonargparse import Namespace

from octavius.cli import LightningParser, Parsed, parse


def parse_nothing(cli: Parsed, *_: Any) -> None:
    cli.config = Namespace()


@pytest.fixture(scope="session")
def parser() -> LightningParser:
    """The parser of `octavius fit`, which takes a second to build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parsed, "parse_arguments", parse_nothing)
        patch.setattr(Parsed, "_set_seed", MagicMock())
        made: LightningParser = parse(Parsed, "fit", []).parser
    return made
