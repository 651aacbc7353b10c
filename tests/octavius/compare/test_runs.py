"""A comparison makes equal runs, keeps finished ones, resumes stopped ones, and names those that failed."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from octavius.cli.main import main
from tests.octavius.compare.conftest import COMPARE, Commands
from tests.tiny import options, refused, settings, write_models


def compare(*more: str) -> None:
    main(["compare", *COMPARE, *more])


def option(words: Sequence[str], name: str) -> str:
    return words[list(words).index(name) + 1]


def test_runs_differ_in_nothing_but_arm_seed_and_place(commands: Commands) -> None:
    compare("--trainer.max_steps", "7")
    fits = [words for command, words in commands.given if command == "fit"]
    assert [(words.count("--config"), option(words, "--seed_everything")) for words in fits] == [
        (1, "0"),
        (2, "0"),
        (1, "1"),
        (2, "1"),
    ]
    for words in fits:
        assert option(words, "--seed_everything") == option(words, "--data.init_args.seed")
        assert option(words, "--trainer.max_steps") == "7"
    bare = [
        [
            word
            for word in words
            if word not in ("--config", "one.yaml", "two.yaml", "0", "1") and "/" not in word
        ]
        for words in fits
    ]
    assert all(words == bare[0] for words in bare)
    assert len({option(words, "--checkpoint.dirpath") for words in fits}) == 4


@pytest.mark.parametrize(
    "more",
    [
        ["--seed_everything", "3"],
        ["--data.init_args.seed=7"],
        ["--checkpoint.dirpath", "x"],
        ["--checkpoint.filename", "x"],
        ["--trainer.logger", "false"],
        ["--trainer.logger.init_args.name", "x"],
        ["--ckpt", "x"],
    ],
)
def test_what_a_comparison_sets_for_each_run_is_no_option(commands: Commands, more: list[str]) -> None:
    with pytest.raises(SystemExit):
        compare(*more)
    assert commands.given == []


def test_the_table_is_of_all_runs(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    compare()
    printed = capsys.readouterr().out
    assert "| q | acc1 | 0.250 ± 0.071 | 0.050 ± 0.071 | -0.200 ± 0.000 |" in printed
    assert "| published: r | acc1 | 0.250 ± 0.071 |" in printed
    assert "| trainable parameters | 10.0 ± 0.0 |" in printed
    assert Path("kept/compare.md").read_text().strip() in printed
    assert len(commands.given) == 8


def test_what_is_done_is_kept_and_more_seeds_are_added(commands: Commands) -> None:
    compare()
    compare()
    assert len(commands.given) == 8
    compare("--seeds", "3")
    assert [option(words, "--seed_everything") for name, words in commands.given[8:] if name == "fit"] == [
        "2"
    ] * 2


@pytest.mark.parametrize("stop_at", [1, 2, 3, 6])
def test_it_goes_on_where_it_was_stopped(commands: Commands, stop_at: int) -> None:
    commands.stop_at = stop_at
    with pytest.raises(SystemExit):
        compare()
    command, words = commands.given[-1]
    compare()
    again_command, again = commands.given[stop_at]
    assert again_command == command
    if command == "fit":
        assert again == [*words, "--ckpt", option(words, "--checkpoint.dirpath") + "/last.ckpt"]
    assert len(commands.given) == 9


def test_commands_for_a_scheduler(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    compare("--print_commands")
    lines = capsys.readouterr().out.splitlines()
    assert not commands.given
    assert not Path("kept").exists()
    assert len(lines) == 4
    parts = [part for line in lines for part in line.split(" && ")]
    assert [part.split()[:2] for part in parts] == [["octavius", "fit"], ["octavius", "test"]] * 4
    compare()
    assert [shlex.join(["octavius", command, *words]) for command, words in commands.given] == parts


def test_what_a_scheduler_ran_is_not_run_again(
    commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("--print_commands")
    for line in capsys.readouterr().out.splitlines():
        for part in line.split(" && "):
            _, command, *words = shlex.split(part)
            folder = Path(option(words, "--checkpoint.dirpath" if command == "fit" else "--ckpt"))
            folder = folder if command == "fit" else folder.parent
            folder.mkdir(parents=True, exist_ok=True)
            commands(command, words, folder / "log")
    compare()
    assert len(commands.given) == 8
    assert "| training time / min | 1.000 ± 0.000 |" in Path("kept/compare.md").read_text()


def test_several_at_a_time_make_the_same_table(commands: Commands) -> None:
    compare("--jobs", "3")
    text = Path("kept/compare.md").read_text()
    assert len(commands.given) == 8
    compare()
    assert Path("kept/compare.md").read_text() == text


def test_after_a_failure_nothing_is_begun(commands: Commands) -> None:
    commands.stop_at = 1
    with pytest.raises(SystemExit):
        compare()
    assert len(commands.given) == 1


PLAN = """\
arms:
  first: [one.yaml]
  second: [one.yaml, two.yaml]
  two: [two.yaml]
differences:
  - [two, first]
  - [second, two]
seeds: 1
out: planned
options: {trainer.max_steps: 7}
"""


def test_a_plan_from_a_file(commands: Commands) -> None:
    Path("plan.yaml").write_text(PLAN)
    main(["compare", "--plan", "plan.yaml"])
    fits = [words for command, words in commands.given if command == "fit"]
    assert [[words[i + 1] for i, word in enumerate(words) if word == "--config"] for words in fits] == [
        ["one.yaml"],
        ["one.yaml", "two.yaml"],
        ["two.yaml"],
    ]
    assert all(option(words, "--trainer.max_steps") == "7" for words in fits)
    text = Path("planned/plan.md").read_text()
    assert "| set | metric | first | second | two | two - first | second - two |" in text
    main(["compare", "--plan", "plan.yaml", "--arms", "two", "first", "--seeds", "2"])
    assert len(commands.given) == 6 + 4
    assert "| set | metric | first | two | two - first |" in Path("planned/plan.md").read_text()


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ("arm: {}", [], ["plan.yaml has the unknown key 'arm'", "arms, seeds"]),
        ("arms: [one.yaml]", [], ["plan.yaml should name its arms"]),
        ("arms: {a: one.yaml}", [], ["plan.yaml should name its arms"]),
        ("arms: {a: [gone.yaml]}", [], ["gone.yaml"]),
        ("arms: {a/b: [one.yaml]}", [], ["a/b"]),
        ("arms: {a: []}", [], ["at least one configuration"]),
        ("", ["--arms", "third"], ["no arm 'third'", "first, second, two"]),
        ("", ["--jobs", "0"], ["--jobs 0"]),
        ("differences: [[first, third]]", [], ["no arm 'third'"]),
        ("seeds: x", [], ["seeds should be a whole number, found 'x'"]),
        ("seeds: true", [], ["seeds should be a whole number"]),
        ("seeds: 1000000000", [], ["seeds should be a whole number of at least 1 and at most 1,000"]),
        ("seeds: .nan", [], ["seeds should be a whole number"]),
        ("arms: {a: [1]}", [], ["plan.yaml should name its arms"]),
        ("arms: {}", [], ["plan.yaml should name its arms"]),
        ("arms: {..: [one.yaml]}", [], ["a name that can be a folder"]),
        ("arms: {'': [one.yaml]}", [], ["a name that can be a folder"]),
        ("differences: [1]", [], ["differences should be pairs of arms"]),
        ("differences: [[first]]", [], ["differences should be pairs of arms"]),
        ("differences: [[[first], [second]]]", [], ["differences should be pairs of arms"]),
        ("options: [1]", [], ["options should be options of fit"]),
        ("config: one.yaml", [], ["config should be a list"]),
        ("out: [1]", [], ["out should be a folder"]),
        ("baseline: [1]", [], ["baseline should be the name of an arm"]),
        ("", ["--jobs", "1000000"], ["jobs should be a whole number"]),
    ],
)
def test_plans_that_are_refused(
    commands: Commands, change: str, words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(PLAN) | {"differences": []} | (yaml.safe_load(change) if change else {})
    Path("plan.yaml").write_text(yaml.safe_dump(content))
    text = refused(["compare", "--plan", "plan.yaml", *words], capsys)
    assert all(part in text for part in said)
    assert not commands.given


def test_nothing_to_compare(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to compare" in refused(["compare", "--config", "one.yaml"], capsys)
    assert not commands.given


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arms", "gone.yaml"], ["gone.yaml"]),
        (["--arms", "one.yaml"], ["two arms would be called 'one'"]),
        (["--baseline", "three"], ["no arm 'three'", "one, two"]),
        (["--seeds", "0"], ["at least one seed"]),
        (["--seeds", "many"], ["invalid int value: 'many'"]),
    ],
)
def test_refused(
    commands: Commands, words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(["compare", *COMPARE, *words], capsys)
    assert all(part in text for part in said)
    assert not commands.given


def test_a_folder_holds_one_comparison(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    compare()
    text = refused(["compare", *COMPARE, "--trainer.max_steps", "9"], capsys)
    assert "kept holds a comparison with the options ``, not `--trainer.max_steps 9`" in text
    Path("two.yaml").write_text("{trainer: {max_epochs: 2}}")
    assert "kept holds runs of an arm 'two' whose configuration was" in refused(["compare", *COMPARE], capsys)
    assert len(commands.given) == 8


@pytest.mark.slow
def test_a_real_comparison(miniature_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(settings(write_models(tmp_path), miniature_root)))
    Path("one.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"lora": {"experts": 1}}}}))
    main(["compare", "--config", "small.yaml", "--arms", "one.yaml", "--seeds", "1"])
    text = Path("runs/compare/compare.md").read_text()
    assert "| set | metric | one | small | small - one |" in text
    assert "relative average" in text


@pytest.mark.slow
def test_a_run_that_fails_is_named(
    miniature_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(settings(write_models(tmp_path), miniature_root)))
    Path("odd.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"lora": {"experts": 0}}}}))
    place = options(seeds=1, out=tmp_path / "out")
    text = refused(["compare", "--config", "small.yaml", "--arms", "odd.yaml", *place], capsys)
    assert "octavius fit failed" in text
    assert "odd/seed0/fit.log" in text
    assert "experts should be a whole number of at least 1" in text
