"""Benchmarks write predictions and tables once, however often a run is interrupted."""

import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from datamodules.benchmark_sets import BenchmarkSets
from datamodules.examples import EvalSet
from octavius.checkpoint_format import weights
from octavius.checkpoint_format.seal import check_seal
from octavius.cli.benchmarks import claim
from octavius.cli.main import main
from octavius.evaluation.controls import ALL
from octavius.evaluation.predictions import read_predictions
from octavius.report.benchmark_evaluation import lines
from octavius.training import OctaviusModule
from tests.octavius.callbacks.fake_module import Sets, questions
from tests.tiny import refused, settings, write_models

SOURCES = [
    {
        "name": "held_out/vqa",
        "benchmark": "scienceqa",
        "folder": "seen/scienceqa",
        "split": "test",
        "limit": 5,
    },
    {
        "name": "held_out/classification",
        "benchmark": "class_folder",
        "folder": "seen/classes",
        "split": "test",
    },
    {"name": "held_out/detection", "benchmark": "voc_detection", "folder": "seen/VOCdevkit", "split": "test"},
]
FILES = ("held_out.vqa.jsonl", "held_out.classification.jsonl", "held_out.detection.jsonl")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> Path:
    """A folder with a checkpoint of tiny parts, whose configuration tests three sets of the miniature."""
    folder = tmp_path_factory.mktemp("trained")
    config = settings(write_models(folder), miniature_root)
    config["data"]["init_args"] |= {"test": [{"limit": 4, **one} for one in SOURCES], "validate": []}
    config["data"]["init_args"] |= {"samples_per_epoch": 4, "eval_batch_size": 2}
    config["evaluation"] = {"max_new_tokens": 4, "likelihood": True}
    config["trainer"]["limit_val_batches"] = 0
    with contextlib.chdir(folder):
        Path("small.yaml").write_text(yaml.safe_dump(config))
        main(["fit", "--config", "small.yaml"])
    return folder


@pytest.fixture(scope="module")
def tested(trained: Path) -> Path:
    """The folder of a whole run over these sets."""
    with contextlib.chdir(trained):
        main(words(Path("whole")))
    return trained / "whole"


@pytest.fixture
def here(trained: Path, tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the checkpoint and of the run, both of which the test may change."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "checkpoints", "checkpoints")
    shutil.copytree(tested, "out")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the samples that the model is asked."""
    ids: list[str] = []
    answer = OctaviusModule.answer

    def noted(self: OctaviusModule, batch: Any, *args: Any, **options: Any) -> Any:
        ids.extend(one.id for one in batch.samples)
        return answer(self, batch, *args, **options)

    monkeypatch.setattr(OctaviusModule, "answer", noted)
    return ids


def words(out: Path, *more: str) -> list[str]:
    return ["test", "--ckpt", "last.ckpt", "--benchmarks", "miniature", "--out", str(out), *more]


def test_a_run_leaves_a_file_a_set_and_the_papers_table(tested: Path) -> None:
    assert sorted(file.name for file in tested.glob("*.jsonl")) == sorted(FILES)
    for file, count in zip(FILES, (5, 4, 4), strict=True):
        items = read_predictions(tested / file)
        assert len({item.sample.id for item in items}) == count
        assert all(len(item.likelihoods) == len(item.sample.gold.options) for item in items if "vqa" in file)  # type: ignore[union-attr]
    assert not (tested / "unfinished").exists()
    text = (tested / "benchmarks.md").read_text()
    assert "| held_out, by likelihood | this checkpoint, on sets of its own" in text
    assert "| LAMM v2, MoE | paper: " in text
    whole = json.loads((tested / "benchmarks.json").read_text())
    assert list(whole["tables"]) == ["Table 1: images", "Table 3: images and point clouds"]
    likely = [one for one in whole["scores"] if "acc1_likelihood" in one["values"]]
    assert {one["task"] for one in likely} == {"vqa", "classification"}
    assert (tested / "benchmarks.csv").is_file()


def test_what_is_answered_is_not_asked_again(here: Path, tested: Path, asked: list[str]) -> None:
    main(words(here / "out"))
    assert asked == []
    for name in (*FILES, "benchmarks.md"):
        assert (here / "out" / name).read_bytes() == (tested / name).read_bytes()


@pytest.mark.parametrize(
    "argv",
    [
        words(Path("new")),
        ["predict", "--ckpt", "last.ckpt", "--question", "Which colour?", "--max_new_tokens", "2"],
        ["export", "--ckpt", "last.ckpt", "--format", "experts", "--out", "exported"],
    ],
)
def test_a_checkpoint_is_opened_once(here: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    opened: list[Path] = []
    monkeypatch.setattr(weights, "check_seal", lambda path: opened.append(path) or check_seal(path))
    main(argv)
    assert [path.name for path in opened] == ["last.ckpt"]


def test_a_run_that_was_cut_off_goes_on(here: Path, tested: Path, asked: list[str]) -> None:
    """Two answers of one set are written, a third in part, by two processes; another set is not begun."""
    lines = (here / "out" / FILES[0]).read_text().splitlines(keepends=True)
    (here / "out" / FILES[0]).unlink()
    (here / "out" / FILES[1]).unlink()
    (here / "out" / "unfinished").mkdir()
    (here / "out" / "unfinished" / "held_out.vqa.0.part").write_text(lines[3])
    (here / "out" / "unfinished" / "held_out.vqa.1.part").write_text(lines[0] + lines[2][:50])
    main(words(here / "out"))
    left = [json.loads(lines[place])["id"] for place in (1, 2, 4)]
    assert sorted(asked) == sorted([*left, *(item.sample.id for item in read_predictions(tested / FILES[1]))])
    for name in (*FILES, "benchmarks.md"):
        assert (here / "out" / name).read_bytes() == (tested / name).read_bytes()


@pytest.mark.slow
def test_blind_controls_are_those_of_a_test_without_benchmarks(
    here: Path, tested: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked after a run that had none of them; not again by the next."""
    blind = ["--evaluation.controls", '["majority", "text", "shuffled"]', "--evaluation.controls_limit", "3"]
    main(words(here / "out", *blind))
    assert len(asked) == 1 + 2 * 3 * 3, (
        "one to get there; two controls of the model, three samples of three sets"
    )
    found = lines(json.loads(Path("out/controls.json").read_text()))
    assert found[0] == ["set", "samples", "protocol", "metric", "model", *ALL, "chance"]
    assert [row[0] for row in found[1:]] == ["held_out/vqa", "held_out/classification", "held_out/detection"]
    capsys.readouterr()
    main(["test", "--ckpt", "last.ckpt", *blind])
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in found[1:]:
        assert [row[found[0].index(part)] for part in ("majority", "box")] == [
            "-",
            "-",
        ]  # not trained; not asked
        assert [cell for cell in row if cell != "-"] in printed
    text = Path("out/benchmarks.md").read_text()
    assert text.startswith((tested / "benchmarks.md").read_text())
    assert "| set | samples | protocol | metric | model | majority | text | box | shuffled | chance |" in text
    asked.clear()
    main(words(here / "out", *blind))
    assert asked == []


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--evaluation.max_new_tokens", "5"], "decoding"),
        (["--evaluation.likelihood", "false"], "decoding"),
        (["--model.init_args.max_tokens", "1000"], "prompt"),
        (["--data.init_args.test", json.dumps([{**SOURCES[0], "unseen_wording": True, "limit": 3}])], "data"),
    ],
)
def test_answers_of_another_kind_are_refused(
    here: Path, more: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(words(here / "out", *more), capsys)
    assert "out holds predictions for held_out/vqa that were made with another " + what in message
    assert "--out, or remove" in message


def test_answers_of_another_checkpoint_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = json.loads(Path("out/keys.json").read_text())
    keys["held_out/vqa"]["checkpoint"] = "0"
    Path("out/keys.json").write_text(json.dumps(keys))
    assert "made with another checkpoint; name another folder" in refused(words(here / "out"), capsys)


def test_benchmarks_of_a_data_root(
    here: Path, miniature_root: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").mkdir()
    Path("data/scienceqa").symlink_to(miniature_root / "seen" / "scienceqa")
    main(["test", "--ckpt", "last.ckpt", "--benchmarks", "scienceqa", "--out", "new", "--data-root", "data"])
    assert len(asked) == len(read_predictions(Path("new/scienceqa.jsonl"))) > 0
    assert "| standard | this checkpoint |" in capsys.readouterr().out
    message = refused(words(here / "new", "--benchmarks", "cifar10", "--data-root", "data"), capsys)
    assert "cifar10 is read from data/cifar10, which does not exist" in message
    assert "unknown 'voc1999'; known are miniature" in refused(
        words(here / "new", "--benchmarks", "voc1999"), capsys
    )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_sample_that_is_left_is_asked_once(world: int) -> None:
    """On several processes one may be asked twice, to fill the last round; its first answer counts."""
    own: Any = Sets(None, test=[EvalSet("a", questions(5)), EvalSet("b", questions(3))])  # type: ignore[arg-type]
    own.processor = SimpleNamespace(collate=list)
    data = BenchmarkSets(own, "miniature", "data")
    data.done = {("a", "q1"), ("b", "q0")}
    assert data.left() == [0, 2, 3, 4, 6, 7]
    places = []
    for rank in range(world):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
        places.append(list(data.test_dataloader().sampler))
    assert len({len(part) for part in places}) == 1, "as many batches on each"
    assert {place for part in places for place in part} == {0, 2, 3, 4, 6, 7}


@pytest.mark.parametrize("content", ["", "[]", '{"voc2012": 5}', "nothing"])
def test_damaged_keys_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ValueError, match=r"keys\.json is damaged"):
        claim(tmp_path, {"voc2012": {"data": "0"}}, write=True)
    assert (tmp_path / "keys.json").read_text() == content
