"""Help that is printed without importing PyTorch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from octavius.cli.usage import EXAMPLES, HELP, overview

ROOT = Path(__file__).resolve().parents[3]


def help_of(command: str) -> str:
    text = overview([command, "--help"])
    assert text is not None
    return text


def test_every_command_has_help_that_ends_with_examples() -> None:
    assert {line.split()[0] for line in HELP.splitlines() if re.match(r"  [a-z]", line)} - {"or"} == set(
        EXAMPLES
    )
    for command, examples in EXAMPLES.items():
        text = help_of(command)
        assert text.startswith(f"usage: octavius {command} ")
        assert text.splitlines()[-len(examples) :] == [f"  {example}" for example in examples]
        assert max(map(len, text.splitlines())) <= 118
    assert len(help_of("fit").splitlines()) <= 45


def test_help_and_unknown_commands_need_no_torch() -> None:
    argvs = [["--help"], ["--version"], *([command, "--help"] for command in EXAMPLES)]
    code = (
        "import sys\n"
        "from octavius.cli.usage import overview, unknown_command\n"
        f"assert all(overview(argv) for argv in {argvs!r})\n"
        "assert 'did you mean' in unknown_command(['fitt'])\n"
        "slow = {'torch', 'lightning', 'jsonargparse', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("argv", "status"), [(["fit", "--help"], 0), (["predict", "-h"], 0), (["fitt"], 2)])
def test_the_program_itself_answers_without_torch(argv: list[str], status: int) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "octavius", *argv]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == status
    assert not re.search(r"\| +torch$", run.stderr, re.MULTILINE)
    assert ("did you mean 'fit'" in run.stderr) is (status == 2)
