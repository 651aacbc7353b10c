"""Help of every command: quick to print, equal to what the parsers accept, with examples that work."""

import re
import shlex

import pytest
from jsonargparse import capture_parser

from octavius.checkpoint import convert
from octavius.cli import benchmarks, check_data
from octavius.cli.lightning_cli import ConfigOnlyCLI, parse
from octavius.cli.main import FUNCTIONS, STAGES, WRITERS, main
from octavius.cli.usage import EXAMPLES, FOLDER, QUICK_PARSERS, overview
from octavius.compare.plan import read_plan
from octavius.configuration.functions import call, underscored
from octavius.configuration.rules import merging_rules
from octavius.interference import report as interference
from octavius.plan.report import split_arguments
from octavius.report import score

GENERATED = {command: [[command]] for command in EXAMPLES if command not in (*STAGES, *QUICK_PARSERS)}
GENERATED["check-data"] = [["check-data"], ["check-data", "--config", "2d.yaml"]]
VALUES = {"N": "1", "X": "0.5", "DIR": "x", "NAME": "x", "TYPE": "32-true", "true": "true"}
"""A value for each kind of argument in the help of `fit`."""


def help_of(command: str) -> str:
    text = overview([command, "--help"])
    assert text is not None
    return text


@pytest.mark.parametrize("command", GENERATED)
def test_the_stored_help_is_what_the_parser_prints(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    texts = []
    for argv in GENERATED[command]:
        with pytest.raises(SystemExit) as end:
            main([*argv, "--help-all"])
        assert end.value.code == 0
        texts.append(capsys.readouterr().out)
    assert (FOLDER / f"{command}.txt").read_text() == "\n".join(texts), "write it anew: make help-texts"


def test_help_all_has_every_option_of_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    text = capsys.readouterr().out
    assert [option for option in ("--trainer.plugins", "--evaluation.num_beams") if option not in text] == []


@pytest.mark.parametrize(
    "command", ["fit", *(pytest.param(name, marks=pytest.mark.slow) for name in STAGES if name != "fit")]
)
def test_the_parser_accepts_the_short_options_in_the_help(command: str) -> None:
    found = re.findall(
        r"^  (--(?:model|data|trainer|checkpoint|evaluation)\.\S+) (\S+)", help_of(command), re.MULTILINE
    )
    assert len(found) >= 5
    argv = [f"{option}={VALUES[value]}" for option, value in found if not option.endswith((".help", ".gate"))]
    parse(ConfigOnlyCLI, command, ["--config", "2d.yaml", *argv])


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, marks=pytest.mark.slow if index else ())
        for examples in EXAMPLES.values()
        for index, example in enumerate(examples)
    ],
)
def test_examples_work(example: str) -> None:
    _, command, *argv = shlex.split(example)
    own_parsers = {"check-data": check_data.parser, "score": score.parser, **QUICK_PARSERS}
    if command in FUNCTIONS:
        parser = capture_parser(lambda: call(FUNCTIONS[command], command, argv, command in WRITERS))
        with merging_rules():
            parser.parse_args(underscored(argv))
    elif command == "compare":
        assert read_plan(argv).arms
    elif command in own_parsers and "--config" not in argv:
        own_parsers[command]().parse_all(argv)
    else:
        if command == "import":
            _, argv = convert.parser().parse_known_args(argv)
        elif command == "interference":
            _, argv = interference.parser().parse_known_args(argv)
        elif command == "plan":
            _, argv = split_arguments(argv)
        elif "--benchmarks" in argv:
            _, argv = benchmarks.parser().parse_known_args(argv)
        # There is no checkpoint, whose configuration would be taken.
        argv = [] if argv == ["--ckpt", "last.ckpt"] else argv[2:] if argv[0] == "--ckpt" else argv
        parse(ConfigOnlyCLI, command, argv if "--config" in argv else ["--config", "2d.yaml", *argv])
