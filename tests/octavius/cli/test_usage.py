"""Help that is printed without importing PyTorch."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.benchmarks import read
from octavius.cli.usage import EXAMPLES, HELP, needs, overview
from octavius.evaluation.answers import Answered
from octavius.evaluation.prediction_files import write_predictions
from octavius.instruction.sample import Boxes, Choice, LabelledBox, Media, References, Sample
from octavius.tasks import TASKS
from tests.datamodules.benchmarks import cifar_files

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


@pytest.fixture(scope="module")
def quick_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of three tasks, the data of a benchmark, and answers to it."""
    folder = tmp_path_factory.mktemp("quick")
    golds = {
        "captioning": References(("a red bus", "the bus")),
        "vqa": Choice(("red", "blue"), 1),
        "detection": Boxes((LabelledBox("dog", (0.1, 0.1, 0.5, 0.5)),)),
    }
    answers = []
    for name, gold in golds.items():
        for number in range(3):
            media = {"image": Media(path=Path(f"{number}.jpg"))}
            sample = Sample(f"{name}{number}", name, f"{name} set", media, "What?", gold)
            text = TASKS[name].answer(sample, random.Random(0))
            answers.append(
                Answered(sample, "What?", text, TASKS[name].parse(text, sample), None, len(answers))
            )
    write_predictions(folder / "answers.jsonl", answers)
    cifar_files.write(folder / "cifar10", [bytes(3072)] * 2, [3, 5])
    samples = read("cifar10", folder / "cifar10", "test")
    (folder / "said.json").write_text(json.dumps({sample.id: "a cat" for sample in samples}))
    return folder


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["score", "answers.jsonl"], "map50_coco"),
        (["score", "--benchmark", "cifar10", "--data-root", ".", "said.json"], "acc1"),
        (["check-data", "--data-root", ".", "--benchmarks", "cifar10"], "1 of 1 ready"),
        (["runs", "--folder", "."], ""),
    ],
)
def test_quick_commands_import_neither_torch_nor_what_else_is_slow(
    argv: list[str], said: str, quick_inputs: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "importtime", "-m", "octavius", *argv]
    run = subprocess.run(
        command,
        cwd=quick_inputs,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    imported = set(re.findall(r"\| +(\w+)$", run.stderr, re.MULTILINE))
    assert said in run.stdout, run.stderr[-2000:]
    slow = {
        "torch",
        "lightning",
        "transformers",
        "jsonargparse",
        "pandas",
        "matplotlib",
        "torchmetrics",
        "scipy",
    }
    assert imported & slow == set()


def test_each_command_imports_what_it_needs() -> None:
    assert needs(["score", "a.jsonl"]) == "score"
    assert needs(["score", "--benchmark=voc2012", "a.json"]) == "score --benchmark"
    assert needs(["check-data", "--data-root", "data"]) == "check-data"
    assert needs(["check-data", "--config=2d.yaml"]) == needs(["fit"]) == needs(["demo"]) == "all"
