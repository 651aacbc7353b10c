"""The argument parser of commands whose options are not parameters of a function."""

import argparse
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any, NoReturn

from octavius.suggestions import nearest


class OptionParser(argparse.ArgumentParser):
    """argparse's parser with errors as exceptions, which suggest the nearest option or choice.

    Options cannot be abbreviated, so that code which looks for one in the arguments finds it.
    """

    def __init__(self, **options: Any) -> None:
        """Takes the arguments of `argparse.ArgumentParser`."""
        super().__init__(exit_on_error=False, allow_abbrev=False, **options)

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Parses arguments that are all of this parser.

        Raises:
            ValueError: there is no such option.
            ArgumentError: a value is missing or wrong.
        """
        found, rest = self.parse_known_args(list(words))
        if rest:
            known = [option for action in self._actions for option in action.option_strings]
            hint = nearest(rest[0].partition("=")[0], known) or "; --help lists them"
            raise ValueError(f"there is no option '{rest[0]}'{hint}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise ArgumentError(
                action,
                f"expected one of {', '.join(choices)}, found {value!r:.60}{nearest(str(value), choices)}",
            )

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print before it exits."""
        raise ValueError(message)
