"""The argument parser of all commands: jsonargparse's, with strict and optionally limited configurations."""

from argparse import ArgumentError
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from octavius.checkpoint_format.configuration import Configuration
from octavius.configuration.text import parse_config, read_text
from octavius.configuration.trust import only_listed

# Some callbacks of Lightning have an enum as the default of a text, such as Timer's interval.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))


class Parser(ArgumentParser):
    """An `ArgumentParser` that reads configurations from regular files in strict YAML.

    Args:
        untrusted: a configuration that came with a checkpoint, which may name listed classes only (see `trust`).
        options: arguments of the parent class.
    """

    def __init__(self, *args: Any, untrusted: Configuration | None = None, **options: Any) -> None:
        self.untrusted = untrusted
        super().__init__(*args, **options)

    def parse_path(self, path: Any, *args: Any, **options: Any) -> Namespace:
        """Parses a configuration file."""
        return self.parse_string(read_text(Path(path)), str(path), *args, **options)

    def parse_string(self, content: str, path: Any = "", *args: Any, **options: Any) -> Namespace:
        """Parses the text of a configuration."""
        untrusted = self.untrusted
        # jsonargparse passes text only, so an untrusted configuration is recognised by its content.
        limited = untrusted is not None and content == untrusted.text
        source = untrusted.source if untrusted is not None and limited else str(path) or "the configuration"
        try:
            said = parse_config(content, source)
            if "config" in said:
                raise ValueError(f"{source} names another configuration; give each with --config")
            with only_listed(source, said) if limited else nullcontext():
                return super().parse_string(content, path, *args, **options)
        except ValueError as error:  # jsonargparse would treat a ValueError as a value of the wrong type
            raise ArgumentError(None, str(error)) from None


class LightningParser(Parser, LightningArgumentParser):
    """The same for commands that build a Lightning trainer."""
