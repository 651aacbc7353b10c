"""Experts that are added to a checkpoint: earlier questions keep their answers while the new ones are learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from octavius.checkpoint.load import load
from octavius.cli.main import main
from octavius.lora_moe.gates.added import AddedGate
from octavius.training import OctaviusModule
from tests.tiny import refused, write_models

QUIET: dict[str, Any] = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}
OLD = ["Like the lamp: What is this?", "For the sofa: What is this?"]
NEW = ["Like the desk: What is this?", "For the desk: What is this?"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint that was trained on two conventions."""
    folder = tmp_path_factory.mktemp("added")
    models = write_models(folder / "models")
    encoder = {"class_path": "PrecomputedFeatures", "init_args": {"num_tokens": 9, "width": 58}}
    model = {
        "class_path": "OctaviusModule",
        "init_args": {
            "decoder": {"class_path": "Decoder", "init_args": {"name": str(models / "language")}},
            "encoders": {"image": encoder},
            "lora": {"experts": 2, "rank": 2, "gate": "source", "losses": {"cv": 0.1}},
            "lr": 0.01,
        },
    }
    data = {
        "class_path": "Conventions",
        "init_args": {
            **{"conventions": 4, "trained": [0, 1], "train_scenes": 300, "eval_scenes": 2, "workers": 0},
            **{"samples_per_epoch": 64, "batch_size": 8},
        },
    }
    (folder / "small.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": QUIET}))
    main(["fit", "--config", str(folder / "small.yaml"), "--checkpoint.dirpath", str(folder / "first")])
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def answers(module: OctaviusModule, questions: list[str]) -> tuple[Tensor, Tensor]:
    """Gate weights (B, E) of the questions, and the logits of a text under them."""
    ids = [torch.tensor(module.model.decoder.tokenizer.encode(f" {text}")) for text in questions]
    rows = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    gate = module.model.gate
    assert gate is not None
    with torch.no_grad():
        weights = gate(module.model.decoder.embed(rows), mask)
        with module.model.routing.use(weights, gate.max_active):
            return weights, module.model.decoder.lm(rows).logits


def train(start: str, out: str, *options: str) -> OctaviusModule:
    main(["fit", "--ckpt", start, "--checkpoint.dirpath", out, *options])
    return load(Path(out) / "last.ckpt")


def test_earlier_questions_keep_their_answers_to_the_last_bit(capsys: pytest.CaptureFixture[str]) -> None:
    main(["import", "first/last.ckpt", "--add-experts", "1", "--out", "start.ckpt"])
    assert "1 more expert; " in capsys.readouterr().out
    first, start = load(Path("first/last.ckpt")), load(Path("start.ckpt"))
    weights, logits = answers(first, OLD)
    started, before = answers(start, OLD)
    assert torch.equal(started, torch.nn.functional.pad(weights, (0, 1)))
    torch.testing.assert_close(before, logits, rtol=1e-5, atol=1e-5)
    second = train("start.ckpt", "second", "--data.init_args.trained", "[2]")
    kept, after = answers(second, OLD)
    assert torch.equal(kept, started)
    assert torch.equal(after, before)
    new, changed = answers(second, NEW)
    assert torch.equal(new, torch.tensor([[0.0, 0.0, 1.0]] * 2))
    assert (changed - answers(start, NEW)[1]).abs().max() > 0.01
    state = {
        name: part for name, part in second.state_dict().items() if "before" in name or "project" in name
    }
    assert len(state) > 4
    assert all(torch.equal(part, start.state_dict()[name]) for name, part in state.items())


@pytest.mark.slow
def test_experts_are_added_again() -> None:
    main(["import", "first/last.ckpt", "--add-experts", "1", "--out", "one.ckpt"])
    train("one.ckpt", "one", "--data.init_args.trained", "[2]")
    main(["import", "one/last.ckpt", "--add-experts", "2", "--out", "again.ckpt"])
    third = train("again.ckpt", "third", "--data.init_args.trained", "[3]")
    gate = third.model.gate
    assert isinstance(gate, AddedGate)
    assert isinstance(gate.before, AddedGate)
    assert third.model.lora is not None
    assert (third.model.lora.experts, third.model.lora.added) == (5, [1, 2])
    again = load(Path("again.ckpt"))
    for questions in (OLD, NEW):
        assert torch.equal(answers(third, questions)[1], answers(again, questions)[1])
        assert answers(third, questions)[0][:, 3:].abs().max() == 0
    latest = answers(third, ["Like the piano: What is this?"])[0]
    assert latest[0, :3].abs().max() == 0
    torch.testing.assert_close(latest.sum(), torch.tensor(1.0))


def test_a_checkpoint_can_be_the_start_of_another_training() -> None:
    main(["import", "first/last.ckpt", "--out", "new.ckpt"])
    state = torch.load("new.ckpt", weights_only=True)
    before = torch.load("first/last.ckpt", weights_only=True)
    assert state["global_step"] == 0
    assert all(torch.equal(part, before["state_dict"][name]) for name, part in state["state_dict"].items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["first/last.ckpt", "--add-experts", "1", "--config", "small.yaml"], "leave out --config"),
        (
            ["models", "--add-experts", "1"],
            "adds to one checkpoint of `octavius fit`, such as last.ckpt, found mod",
        ),
        (["first/last.ckpt", "--add-experts", "-1"], "expected 0, or the number of experts"),
        (
            ["first/last.ckpt", "--add-experts", "1", "--model.init_args.lora.gate", "token"],
            "cannot be added under",
        ),
    ],
)
def test_what_cannot_be_added_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(["import", *words, "--out", "refused.ckpt"], capsys)
    assert said in text
    assert not Path("refused.ckpt").exists()


def test_settings_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "--config", "small.yaml", "--checkpoint.dirpath", "none"]
    text = refused([*fit, "--model.init_args.lora.added", "[2]"], capsys)
    assert "names 2 experts that were added, and lora.experts is 2" in text
    assert "names none" in refused([*fit, "--model.init_args.lora.train", "added"], capsys)
