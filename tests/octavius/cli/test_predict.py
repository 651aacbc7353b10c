"""A question to a trained checkpoint is answered as the evaluation answers it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octavius.cli.main import main
from octavius.cli.predict import ask, load, media_of, predict
from tests.pages import README, blocks
from tests.tiny import refused, settings, write_models


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, miniature_root: Path) -> Path:
    """A folder in which a tiny model was trained and tested; predictions lie in `runs/test`."""
    folder = tmp_path_factory.mktemp("demo")
    small = settings(write_models(folder / "models"), miniature_root)
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": None, "version": "test"}}
    small["trainer"]["logger"] = logger
    with contextlib.chdir(folder):
        Path("small.yaml").write_text(yaml.safe_dump(small))
        main(["fit", "--config", "small.yaml", "--data.init_args.validate", "[]"])
        main(["test", "--ckpt", "last.ckpt"])
    return folder


@pytest.fixture(scope="module")
def asked(run: Path) -> list[dict[str, Any]]:
    """What the evaluation of the test set wrote down."""
    lines = (run / "runs" / "test" / "predictions_test.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_it_answers_as_the_evaluation_did(run: Path, asked: list[dict[str, Any]]) -> None:
    module = load(run / "checkpoints" / "last.ckpt")
    assert not module.training
    assert len(asked) == 4
    for line in asked:
        media = media_of(Path(line["media"]["image"]))
        text, gate = ask(module, line["question"], media, max_new_tokens=4)
        assert text == line["prediction"]
        assert gate == pytest.approx(line["gate"], abs=1e-4)


def test_the_readme_example_answers(
    run: Path,
    asked: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = (text for text in blocks(README, "python") if "last.ckpt" in text)
    monkeypatch.chdir(run)
    image = "data/miniature/seen/coco/val2017/000000008001.jpg"
    assert image in code
    Path(image).parent.mkdir(parents=True)
    Path(image).symlink_to(asked[0]["media"]["image"])
    exec(compile(code, "README.md", "exec"), {})
    assert "weights of the experts: [" in capsys.readouterr().out


def test_it_holds_what_was_trained(run: Path) -> None:
    module = load(run / "checkpoints" / "last.ckpt")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    here = dict(module.named_parameters())
    assert set(saved) == {name for name, parameter in here.items() if parameter.requires_grad}
    for name, tensor in saved.items():
        torch.testing.assert_close(here[name], tensor, rtol=0, atol=0)


def test_the_command_prints_the_answer_and_the_experts(
    run: Path,
    asked: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run)
    line = asked[0]
    words = ["--question", line["question"], "--image", line["media"]["image"], "--max_new_tokens", "4"]
    main(["predict", *words])
    answer, experts = capsys.readouterr().out.splitlines()
    assert answer == line["prediction"]
    used = {place: weight for place, weight in enumerate(line["gate"]) if weight > 0}
    assert experts == "experts: " + ", ".join(f"{place} ({weight:.2f})" for place, weight in used.items())


def test_a_picture_is_not_needed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    main(["predict", "--question", "What is red?", "--ckpt", checkpoint, "--max_new_tokens", "3"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("experts: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--question", "word " * 3000], "more than 2,048 tokens, the max_tokens of the model"),
        (["--question", "What?", "--cloud", "a.npy"], "no encoder for cloud; it takes image"),
    ],
    ids=["too long", "cloud"],
)
def test_what_the_model_cannot_be_asked(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.npy").touch()
    assert said in refused(["predict", *words, "--ckpt", str(run / "checkpoints" / "last.ckpt")], capsys)


def test_beams_and_greedy_agree_on_one_token(run: Path, asked: list[dict[str, Any]]) -> None:
    module = load(run / "checkpoints" / "last.ckpt")
    media = media_of(Path(asked[0]["media"]["image"]))
    greedy = ask(module, "What is this?", media, max_new_tokens=1)
    assert ask(module, "What is this?", media, max_new_tokens=1, num_beams=3) == greedy


def test_several_images_and_questions_are_answered_by_one_process(
    run: Path,
    asked: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [asked[0]["media"]["image"], asked[1]["media"]["image"]]
    Path("broken.png").write_bytes(b"not a picture")
    Path("q.txt").write_text("What is red?\nWhere?\n")
    checkpoint = ["--ckpt", str(run / "checkpoints" / "last.ckpt"), "--max_new_tokens", "3"]
    argv = ["--questions", "q.txt", "--image", *files, "broken.png", "--json", "--out", "out"]
    with pytest.raises(SystemExit) as end:
        main(["predict", *argv, *checkpoint])
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert "2 of 6 questions were not answered" in printed.err
    assert printed.err.count("octavius: not answered: broken.png is not an image") == 2
    lines = [json.loads(line) for line in printed.out.splitlines() if line.startswith("{")]
    assert [(line["image"], line["question"]) for line in lines] == [
        (file, question) for file in files for question in ("What is red?", "Where?")
    ]
    kept = Path("out/answers.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == lines


def test_a_folder_that_cannot_be_written_to_is_found_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("octavius.cli.predict.load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(OSError, match="so that nothing can be written"):
        predict(question="What?", out=tmp_path / "file" / "out")
