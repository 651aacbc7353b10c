"""The command line: which settings win, what a run leaves behind, and how it resumes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octavius import __version__
from octavius.callbacks.moving_averages import MovingAverages
from octavius.checkpoint.saving import CheckpointFiles
from octavius.cli.main import main
from octavius.runs.history import read as read_history
from tests.datamodules.benchmarks import cifar_files
from tests.selection import mostly_slow
from tests.tiny import ROOT, options, refused, settings, write_models

LORA = {"alpha": 32.0, "dropout": 0.1, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}
"""The paper's settings that `small.yaml` leaves alone."""

COMMANDS = (
    "fit",
    "validate",
    "test",
    "predict",
    "score",
    "compare",
    "export",
    "import",
    "miniature",
    "rooms",
    "build-instructions",
    "check-data",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> dict[str, Any]:
    """A configuration of tiny parts, as it would stand in a YAML file."""
    return settings(write_models(tmp_path_factory.mktemp("models")), miniature_root)


@pytest.fixture(scope="module")
def trained(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `octavius fit` ran with logs and bar, and what it printed in `printed.txt`."""
    folder = tmp_path_factory.mktemp("trained")
    with (
        contextlib.chdir(folder),
        (folder / "printed.txt").open("w") as file,
        contextlib.redirect_stdout(file),
    ):
        logged = {**small, "trainer": dict(small["trainer"])}
        del logged["trainer"]["logger"], logged["trainer"]["enable_progress_bar"]
        Path("small.yaml").write_text(yaml.safe_dump(logged))
        main(["fit", "--config", "small.yaml"])
    return folder


@pytest.fixture
def here(small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds `small.yaml` alone."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(small))
    return tmp_path


@pytest.fixture
def kept(trained: Path, here: Path) -> Path:
    """The current folder with the trained checkpoint and its configuration, which the test may change."""
    Path("checkpoints").mkdir()
    for name in ("last.ckpt", "last.yaml"):
        Path("checkpoints", name).write_bytes((trained / "checkpoints" / name).read_bytes())
    return here / "checkpoints"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works in this test, and after it; Lightning switches it off while it ends a run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def steps(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["global_step"])


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    lines = capsys.readouterr().out.splitlines()
    for command in COMMANDS:
        assert sum(line.startswith(f"  {command} ") for line in lines) == 1


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"octavius {__version__}\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("compare", ["--arms", "--seeds", "--baseline", "--print_commands"]),
        ("fit", ["--ckpt", "--config", "--model.lora.rank", "--trainer.max_epochs", "--help-all"]),
        ("test", ["--ckpt", "--trainer.devices"]),
        ("predict", ["--question", "--image", "--ckpt", "last.ckpt"]),
        ("miniature", ["root", "--seed", "--sizes.scenes"]),
        ("rooms", ["root", "--seed", "--sizes.train"]),
        ("check-data", ["--data_root", "--benchmarks", "--json"]),
        ("score", ["predictions", "--protocol", "--out"]),
        ("build-instructions", ["--source", "--root", "--split", "--kinds", "--limit", "--seed"]),
    ],
)
def test_each_command_tells_its_options(
    command: str, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([command, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: octavius {command} ")
    assert [word for word in told if word not in text] == []


def test_a_run_leaves_a_checkpoint_and_says_where_all_lies(trained: Path) -> None:
    printed = (trained / "printed.txt").read_text()
    folder = "runs/octavius/version_0"
    assert f"logs, predictions and tables: {folder}\n" in printed
    assert "checkpoint: checkpoints/last.ckpt\nnext: octavius test --ckpt last.ckpt\n" in printed
    assert "tensorboard --logdir runs    # http://localhost:6006/#custom_scalars\n" in printed
    assert "epoch 1, step 2" in printed
    assert {path.name for path in (trained / folder).iterdir()} >= {
        "predictions_val.jsonl",
        "metrics_val.csv",
        "history.jsonl",
        "run.json",
        "config.yaml",
        "last.ckpt",
        "best.ckpt",
    }
    record = json.loads((trained / folder / "run.json").read_text())
    assert record["command"] == "octavius fit --config small.yaml"
    assert (record["status"], record["step"], record["seed"]) == ("finished", 2, 0)
    assert yaml.safe_load((trained / folder / "config.yaml").read_text()) == yaml.safe_load(
        (trained / "checkpoints" / "last.yaml").read_text()
    )
    assert {item.step for item in read_history(trained / folder)} == {2}
    assert steps(trained / "checkpoints" / "last.ckpt") == 2


def test_lines_tell_epoch_batch_loss_and_speed_where_there_is_no_terminal(trained: Path) -> None:
    printed = (trained / "printed.txt").read_text()
    assert re.search(
        r"^model: [\d.,]+ M parameters, of which [\d.]+ M \([\d.]+%\) are trained$", printed, re.MULTILINE
    )
    [first, last] = [line for line in printed.splitlines() if line.startswith("epoch 1 of 1: ")]
    assert first.startswith("epoch 1 of 1: batch 1 of 2, train/loss ")
    assert last.startswith("epoch 1 of 1: batch 2 of 2, train/loss ")
    assert " samples/s, " in last
    assert last.endswith(" left")
    assert "\r" not in printed
    assert re.search(r"^validation: \d+ of \d+ answers", printed, re.MULTILINE)


def test_the_configuration_beside_the_checkpoint_is_whole_and_plain(trained: Path) -> None:
    saved = yaml.safe_load((trained / "checkpoints" / "last.yaml").read_text())
    assert set(saved) == {"seed_everything", "trainer", "model", "data", "checkpoint", "evaluation"}
    assert (saved["checkpoint"]["dirpath"], saved["checkpoint"]["filename"]) == ("checkpoints", "last")
    assert saved["evaluation"]["max_new_tokens"] == 4
    assert saved["trainer"]["logger"]["init_args"]["save_dir"] == "runs"
    assert "processor" not in saved["data"]["init_args"]


def test_a_checkpoint_alone_is_enough_to_test(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    saved = (trained / "checkpoints" / "last.yaml").read_bytes()
    main(["test", "--ckpt", "last.ckpt"])
    printed = capsys.readouterr().out
    assert "cider" in printed
    assert "next:" not in printed
    places = [line.rpartition(": ")[2] for line in printed.splitlines() if line.startswith("logs, ")]
    assert (trained / places[0] / "predictions_test.jsonl").read_text().count("\n") == 4
    assert (trained / "checkpoints" / "last.yaml").read_bytes() == saved


@pytest.mark.parametrize(
    ("words", "lr"),
    mostly_slow(
        [
            ([], 5e-4),  # the default
            (["--ckpt", "last.ckpt"], 0.125),
            (["--ckpt", "last.ckpt", "--config", "low.yaml"], 0.25),
            (["--config", "low.yaml", "--ckpt", "last.ckpt"], 0.25),
            (["--config", "low.yaml", "--config", "high.yaml", "--ckpt", "last.ckpt"], 0.5),
            (["--config", "high.yaml", "--config", "low.yaml", "--ckpt", "last.ckpt"], 0.25),
            (["--model.init_args.lr", "0.9", "--config", "high.yaml", "--ckpt", "last.ckpt"], 0.9),
            (["--ckpt=last.ckpt", "--config=high.yaml", "--model.init_args.lr=0.9"], 0.9),
            (["--ckpt_path", "last.ckpt", "-c", "high.yaml"], 0.5),
        ],
        4,
    ),
)
@pytest.mark.usefixtures("kept")
def test_command_line_beats_files_beat_the_checkpoints_own_beats_defaults(
    small: dict[str, Any], words: list[str], lr: float, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("low.yaml").write_text("model: {init_args: {lr: 0.25}}")
    Path("high.yaml").write_text("model: {init_args: {lr: 0.5}}")
    if not words:
        del (bare := {**small["model"], "init_args": dict(small["model"]["init_args"])})["init_args"]["lr"]
        Path("bare.yaml").write_text(yaml.safe_dump({**small, "model": bare}))
        words = ["--config", "bare.yaml"]
    with pytest.raises(SystemExit) as end:
        main(["fit", *words, "--print_config"])
    assert end.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["init_args"]["lr"] == lr
    assert {**LORA, "experts": 3, "rank": 2}.items() <= shown["model"]["init_args"]["lora"].items()


@pytest.mark.usefixtures("kept")
def test_a_run_goes_on_from_a_checkpoint() -> None:
    main(["fit", "--config", "small.yaml", "--ckpt", "last.ckpt", *options(trainer__max_epochs=2)])
    again = torch.load("checkpoints/last.ckpt", weights_only=True)
    assert (again["global_step"], again["epoch"]) == (4, 1)
    assert next(iter(again["optimizer_states"][0]["state"].values()))["step"] == 4


@pytest.mark.usefixtures("here")
def test_scores_without_a_checkpoint_are_said_to_be_untrained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["validate", "--config", "small.yaml"])
    printed = capsys.readouterr().out
    assert printed.startswith("no --ckpt is named: ")
    assert "cider" in printed


@pytest.mark.usefixtures("here", "interruptible")
def test_ctrl_c_keeps_the_training_so_far_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = MovingAverages.on_train_batch_end

    def press(self: MovingAverages, trainer: Any, *rest: Any) -> None:
        watched(self, trainer, *rest)
        if trainer.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(MovingAverages, "on_train_batch_end", press)
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", "small.yaml"])
    out, err = capsys.readouterr()
    assert end.value.code == 130
    assert "checkpoints/last.ckpt; go on with: octavius fit --ckpt last.ckpt\n" in out
    assert err.rstrip().endswith("octavius: stopped")
    assert "Traceback" not in out + err
    assert steps(Path("checkpoints/last.ckpt")) == 1
    monkeypatch.setattr(MovingAverages, "on_train_batch_end", watched)
    main(["fit", "--ckpt", "last.ckpt"])
    assert steps(Path("checkpoints/last.ckpt")) == 2


@pytest.mark.usefixtures("here")
def test_an_error_keeps_the_training_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: MovingAverages, trainer: Any, *__: Any) -> None:
        if trainer.global_step == 1:
            raise ValueError("the disk of the data is gone")

    monkeypatch.setattr(MovingAverages, "on_train_batch_end", fail)
    with pytest.raises(SystemExit):
        main(["fit", "--config", "small.yaml"])
    out, err = capsys.readouterr()
    assert "go on with: octavius fit --ckpt last.ckpt" in out
    assert err.endswith("octavius: error: the disk of the data is gone\n")
    assert err.count("the disk of the data is gone") == 1


def test_a_refused_run_leaves_the_earlier_checkpoint_and_its_configuration_alone(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in kept.iterdir()}
    refused(["fit", "--config", "small.yaml", *options(data__init_args__root="nowhere")], capsys)
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


def test_each_checkpoint_has_its_configuration(tmp_path: Path) -> None:
    files = CheckpointFiles("lr: 1\n")
    assert files.last is None
    for name in ("epoch=0.5-step=1.ckpt", "epoch=1.5-step=2.ckpt"):
        files.save_checkpoint({"state_dict": {}}, tmp_path / "deep" / name)
        assert yaml.safe_load((tmp_path / "deep" / name).with_suffix(".yaml").read_text()) == {"lr": 1}
        assert torch.load(tmp_path / "deep" / name, weights_only=True)["configuration"] == "lr: 1\n"
        assert files.last == tmp_path / "deep" / name
    files.remove_checkpoint(tmp_path / "deep" / "epoch=0.5-step=1.ckpt")
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {
        "epoch=1.5-step=2.ckpt",
        "epoch=1.5-step=2.yaml",
    }


def test_the_miniature_is_never_written_over_something_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(["miniature", str(here)], capsys)
    assert "it holds no miniature.json" in text
    assert [path.name for path in here.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(("cut", "status"), [(False, 0), (True, 1)])
def test_missing_data_are_the_exit_status(
    tmp_path: Path, cut: bool, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cifar_files.write(tmp_path / "a-b" / "cifar10", [bytes(3072)], [8])
    if cut:
        (tmp_path / "a-b" / "cifar10" / "test_batch").unlink()
    with pytest.raises(SystemExit) as end:
        main(["check-data", "--data-root", str(tmp_path / "a-b"), "--benchmarks=cifar10"])
    assert end.value.code == status
    assert capsys.readouterr().out.startswith("cifar10  not ready" if cut else "cifar10  ready")


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_reaches_data_workers_too(here: Path) -> None:
    words = ["fit", "--config", "small.yaml", *options(data__init_args__workers=2, trainer__max_epochs=9999)]
    command = [sys.executable, "-m", "octavius", *words, *options(trainer__enable_progress_bar="true")]
    # A shell without job control starts its children with Ctrl-C switched off; this switches it on again.
    reset = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    run = subprocess.Popen(
        [sys.executable, "-c", reset, *command],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 240
    while not (here / "checkpoints" / "last.ckpt").is_file():  # there after the first epoch
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    printed, _ = run.communicate(timeout=120)
    assert "Traceback" not in printed
    assert "go on with: octavius fit --ckpt last.ckpt" in printed
    assert run.returncode == 130


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["--version"]])
def test_the_overview_and_the_version_need_no_torch(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    check = (
        f"import sys; sys.argv = ['octavius', *{argv}]; import octavius.__main__ as program; "
        "assert 'torch' not in sys.modules; program.main()"
    )
    run = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    main(argv)
    assert run.stdout == capsys.readouterr().out
