"""The command that lists and compares runs, over log folders written by hand."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavius.runs import facts, history
from octavius.runs.history import Measurement
from octavius.runs.listing import flat, read, runs, short_names, took

ONE = Measurement("test", 1, 10, "seen/vqa", "vqa", "standard", "acc1", True, 5, 0.6, 0.25, 0.5, 0.75)
ROOT = Path(__file__).resolve().parents[3]


def make(folder: Path, started: str, config: str, *scores: Measurement, **more: Any) -> Path:
    folder.mkdir(parents=True)
    found = facts.start("fit", ["fit", "--config", "2d.yaml"], 0, 1)
    facts.write(folder, found | {"status": "finished", "started": started, "ended": started} | more)
    (folder / facts.CONFIG).write_text(config)
    history.append(folder, scores)
    return folder


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two runs, of which the second started first."""
    monkeypatch.chdir(tmp_path)
    config = "model: {lora: {rank: RANK, experts: 4}}\ndata: {train: [{benchmark: vqa}]}\n"
    early = "2026-01-01T10:00:00+00:00"
    one = make(
        tmp_path / "runs/a/version_0",
        "2026-01-02T10:00:00+00:00",
        config.replace("RANK", "8"),
        ONE,
        replace(ONE, set="other/vqa", value=0.2),
        replace(ONE, metric="acc1_exact", headline=False, chance=None, low=None),
    )
    other = make(
        tmp_path / "runs/b/version_0",
        early,
        config.replace("RANK", "16"),
        replace(ONE, value=0.7),
        ended="2026-01-01T12:03:04+00:00",
        seed=1,
    )
    return one, other


@pytest.mark.usefixtures("two")
def test_all_runs_in_the_order_of_their_starts(capsys: pytest.CaptureFixture[str]) -> None:
    runs([])
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["run", "stage", "started", "took", "status", "step", "vqa", "acc1"]
    assert rows[0] == ["b/version_0", "fit", "2026-01-01", "10:00:00", "2:03:04", "finished", "10", "0.700"]
    assert rows[1] == ["a/version_0", "fit", "2026-01-02", "10:00:00", "0:00:00", "finished", "10", "0.400"]


def test_a_run_without_an_evaluation_has_the_step_of_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "version_0", "2026-01-02T10:00:00+00:00", "", step=60)
    runs(["--folder", str(tmp_path)])
    assert capsys.readouterr().out.split()[-2:] == ["finished", "60"]


def test_two_runs_side_by_side(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs(["a/version_0", str(two[1]), "--csv", "table.csv"])
    out = capsys.readouterr().out
    settings, _, scores = out.partition("scores of the last evaluation (chance)")
    assert [line.split() for line in settings.splitlines() if "." in line] == [
        ["model.lora.rank", "8", "16"],
        ["run.seed", "0", "1"],
    ]
    assert "a/version_0" in settings
    assert "0.600 [0.50, 0.75] (0.25)  0.700 [0.50, 0.75] (0.25)" in scores
    assert "other/vqa" in scores
    assert "acc1_exact" not in scores
    with (tmp_path / "table.csv").open() as file:
        assert next(csv.reader(file)) == ["set", "metric", "a/version_0", "b/version_0"]
    runs(["a/version_0", "b/version_0", "--all"])
    assert "acc1_exact  0.600  " in capsys.readouterr().out


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--folder", "nowhere"], "there is no run in .*nowhere: expected folders with run.json"),
        (["a/version_9"], "there is no run in a/version_9"),
        (["--al"], "there is no option '--al' [(]did you mean '--all'"),
    ],
)
def test_mistakes(argv: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        runs(argv)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"started": 3}', "{" * 99_999, '{"started": "", "host": []}']
)
def test_a_damaged_record_is_named_and_the_others_are_listed(
    two: tuple[Path, Path], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (two[0] / facts.FILE).write_text(text)
    runs([])
    printed = capsys.readouterr()
    assert "a/version_0/run.json" in printed.err
    assert "damaged" in printed.out
    assert "b/version_0" in printed.out
    with pytest.raises(ValueError, match=r"a/version_0/run\.json"):
        runs(["a/version_0", "b/version_0"])


@pytest.mark.parametrize(
    "text",
    [
        "model: &a {b: *a}",
        "c: &c0 [x, x]\n" + "".join(f"c{n}: &c{n} [*c{n - 1}, *c{n - 1}]\n" for n in range(1, 40)),
        "[" * 3_000,
    ],
    ids=["an alias of itself", "doubled aliases", "deep"],
)
def test_a_configuration_without_an_end_is_named(two: tuple[Path, Path], text: str) -> None:
    (two[0] / facts.CONFIG).write_text(text)
    with pytest.raises(ValueError, match=r"a/version_0/config\.yaml cannot be read"):
        runs(["a/version_0", "b/version_0"])


@pytest.mark.parametrize("name", [facts.FILE, facts.CONFIG, history.FILE])
def test_pipes_are_not_waited_for(two: tuple[Path, Path], name: str) -> None:
    (two[0] / name).unlink(missing_ok=True)
    os.mkfifo(two[0] / name)
    with pytest.raises(ValueError, match=rf"a/version_0/{name} cannot be read.*pipe|no run in a/version_0"):
        runs(["a/version_0", "b/version_0"])


def test_a_host_without_a_process_is_still_listed(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(two[0])
    facts.write(two[0], found | {"status": "running", "host": {**found["host"], "pid": None}})
    runs([])
    assert "running" in capsys.readouterr().out


def test_odd_texts_do_not_break_the_table(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    history.append(two[0], [replace(ONE, set="\x1b[31m\n=1+1", task="\x1b]0;x\x07")])
    runs(["a/version_0", "b/version_0", "--csv", "table.csv"])
    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b" not in Path("table.csv").read_text()


def test_settings_by_dotted_key_names_and_durations() -> None:
    assert flat({"a": {"b": 1, "c": [{"d": None}, {"d": [1, 2]}]}, "e": {}}) == {
        "a.b": "1",
        "a.c[0].d": "None",
        "a.c[1].d": "[1, 2]",
        "e": "{}",
    }
    assert short_names([Path("x/a/version_0"), Path("x/b/version_0")]) == ["a/version_0", "b/version_0"]
    assert short_names([Path("x/a"), Path("x/a")]) == ["a", "a"]
    assert took({"started": "2026-01-01T10:00:00+00:00"}) == ""


@pytest.mark.usefixtures("two")
def test_the_program_answers_without_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "octavius", "runs"]
    for more, status in ([], 0), (["nowhere"], 2), (["--help"], 0):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, env=None)
        assert done.returncode == status, done.stderr[-500:]
        assert "| torch\n" not in done.stderr
        assert ("octavius: error: there is no run in nowhere" in done.stderr) is (status == 2)
