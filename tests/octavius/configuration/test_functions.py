"""Command lines for functions: flags, switches, positional arguments, and errors."""

from typing import Any

import pytest

from octavius.configuration.functions import call, underscored


def called(*argv: str, positional: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def command(out: str, data_root: str = "data", count: int = 3, fast: bool = False) -> None:
        """Does something."""
        found.update(out=out, data_root=data_root, count=count, fast=fast)

    call(command, "command", argv, positional)
    return found


def test_parameters_are_options_with_their_types() -> None:
    assert called("--out", "x") == {"out": "x", "data_root": "data", "count": 3, "fast": False}
    found = called("--out=x", "--data-root=a-b", "--count", "5", "--fast")
    assert found == {"out": "x", "data_root": "a-b", "count": 5, "fast": True}
    assert called("--fast", "false", "--out", "x")["fast"] is False
    assert called("here", positional=True)["out"] == "here"


def test_only_names_of_flags_are_underscored() -> None:
    assert underscored(["--data-root=a-b", "c-d", "-x-y", "--a-b"]) == [
        "--data_root=a-b",
        "c-d",
        "-x-y",
        "--a_b",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--out", "x", "--cuont", "5"], "cuont"), (["--out", "x", "--count", "many"], "count"), ([], "out")],
)
def test_errors_name_the_option(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        called(*argv)
