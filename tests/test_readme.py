"""The commands of the README are accepted by the programs that they are for."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from octavius.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line.strip().split("  #")[0].strip() for line in README.splitlines() if line.startswith("    ")]
CELLS = re.findall(r"^\| `(octavius [^`]+)`", README, flags=re.MULTILINE)
COMMANDS = sorted({line for line in [*LINES, *CELLS] if line.startswith("octavius ")})
TARGETS = sorted({line.split()[1] for line in LINES if line.startswith("make ")})


def test_there_are_commands_to_check() -> None:
    """An edit that hides the commands from this test must not make it pass."""
    assert {"fit", "test", "predict", "miniature"} <= {command.split()[1] for command in COMMANDS}
    assert {"fit"} <= set(TARGETS)
    assert len(README.splitlines()) < 300


@pytest.mark.parametrize("command", [item for item in COMMANDS if item.split()[1] == "fit"])
def test_fit_commands_parse(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option and preset of a training command exists."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)[1:]
    if "--ckpt" in words:  # needs a run before it; test_cli resumes one
        place = words.index("--ckpt")
        words = words[:place] + words[place + 2 :]
    with pytest.raises(SystemExit) as end:
        main([*words, "--help" if words[-1] == "--help" else "--print_config"])
    assert end.value.code in (0, None), capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [item for item in COMMANDS if item.split()[1] in ("predict", "export", "compare", "miniature")]
)
def test_options_of_the_other_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option that the README types is in the command's help."""
    words = shlex.split(command)[1:]
    with pytest.raises(SystemExit):
        main([words[0], "--help"])
    text = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert word in text, word


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_exist(target: str) -> None:
    """Every target that the README types can be planned."""
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
