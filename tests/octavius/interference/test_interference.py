"""The interference lab against slow, obvious versions of what it measures, and its command from end to end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from octavius.cli.main import main
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.interference.experts import losses_with, only, similarity, weights_of, without
from octavius.interference.gradients import conflicting, cosines, gradients_of
from octavius.interference.picture import draw
from octavius.interference.report import routing_table
from octavius.lora_moe import LoRAMoELinear
from octavius.lora_moe.inject import adapter_parameters
from octavius.model import Octavius

MakeModel = Callable[..., Octavius]
MakeSample = Callable[..., Sample]
Write = Callable[..., Batch]


def batch_of(model: Octavius, make_sample: MakeSample, write: Write, *turns: tuple[str, str]) -> Batch:
    return write(model.processor(), *((make_sample(f"s{n}"), *turn) for n, turn in enumerate(turns)))


def test_a_gradient_is_that_of_the_mean_loss_over_all_batches(
    make_model: MakeModel, make_sample: MakeSample, write: Write
) -> None:
    model = make_model()
    turns = [("Is it red?", "no"), ("What is it?", "a very long answer"), ("Who?", "me")]
    found = gradients_of(model, [batch_of(model, make_sample, write, turn) for turn in turns])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    model.eval()(batch_of(model, make_sample, write, *turns)).losses.mean().backward()
    parameters = adapter_parameters(model.decoder.lm)
    for layer, vector in found.items():
        both = [parameters[f"{layer}.{half}"].grad for half in ("lora_A", "lora_B")]
        expected = torch.cat([part.flatten() for part in both if part is not None])
        torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-6)


def test_cosines_and_conflicts_by_hand() -> None:
    layer, other = "lm.layers.0.q_proj", "lm.layers.1.q_proj"
    table = cosines(
        {
            "a": {layer: torch.tensor([1.0, 0.0]), other: torch.tensor([1.0, 1.0])},
            "b": {layer: torch.tensor([-2.0, 0.0]), other: torch.tensor([3.0, 3.0])},
            "c": {layer: torch.tensor([0.0, 5.0]), other: torch.zeros(2)},
        }
    )
    assert table[["task", "other", "depth"]].to_numpy().tolist()[:2] == [["a", "b", 0], ["a", "b", 1]]
    assert table["cosine"].round(6).tolist()[:3] == [-1.0, 1.0, 0.0]
    assert table["cosine"].isna().sum() == 2  # pairs with the zero gradient
    assert conflicting(table, "depth").to_dict() == {0: pytest.approx(1 / 3), 1: 0.0}


def test_changed_weights_reach_the_layers_and_nothing_stays_changed(
    make_model: MakeModel, make_sample: MakeSample, write: Write
) -> None:
    model = make_model().eval()
    batch = batch_of(model, make_sample, write, ("Is it red?", "no"), ("What is it?", "a cat"))
    before = losses_with(model, [batch])
    gate = model.gate
    alone = losses_with(model, [batch], only(1))
    assert model.gate is gate
    assert torch.equal(losses_with(model, [batch]), before)
    for name, parameter in adapter_parameters(model.decoder.lm).items():
        if name.endswith("lora_B"):  # every other expert gives nothing, expert 1 has weight 1
            with torch.no_grad():
                wide = parameter.unflatten(1, (3, -1))
                wide[:, [0, 2]] = 0.0
    torch.testing.assert_close(losses_with(model, [batch], lambda weights: torch.ones_like(weights)), alone)


def test_without_an_expert_the_others_have_its_weight() -> None:
    weights = torch.tensor([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(without(1)(weights), torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]))


@pytest.mark.parametrize("shared_a", [False, True])
def test_similarity_is_that_of_the_products(make_model: MakeModel, shared_a: bool) -> None:
    model = make_model(shared_a=shared_a)
    table = similarity(model).set_index(["layer", "expert", "other"])["cosine"]
    for name, layer in model.decoder.lm.named_modules():
        if isinstance(layer, LoRAMoELinear):
            downs = [layer.lora_A] * 3 if shared_a else list(layer.lora_A.chunk(3))
            updates = [
                (up @ down).flatten() for up, down in zip(layer.lora_B.chunk(3, 1), downs, strict=True)
            ]
            for expert, other in ((0, 1), (0, 2), (1, 2)):
                expected = torch.cosine_similarity(updates[expert], updates[other], dim=0)
                assert table[name, expert, other] == pytest.approx(expected.item(), abs=1e-5)


def test_what_the_routing_tells_of_the_task() -> None:
    a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    apart = routing_table({"a": a, "b": b}, {"a": a, "b": torch.tensor([[0.0, 1.0], [1.0, 0.0]])})
    assert apart["mutual_information"].tolist() == pytest.approx([np.log(2)] * 2)
    assert apart["stable_under_paraphrase"].tolist() == [1.0, 0.5]
    assert apart["margin"].tolist() == [1.0, 1.0]
    assert apart["entropy"].tolist() == [0.0, 0.0]
    assert routing_table({"a": a, "b": a}, {"a": a, "b": a})["mutual_information"].tolist() == [0.0, 0.0]


def test_weights_are_those_of_the_gate(make_model: MakeModel, make_sample: MakeSample, write: Write) -> None:
    model = make_model()
    batch = batch_of(model, make_sample, write, ("Is it red?", "no"), ("What is it?", "a cat"))
    torch.testing.assert_close(weights_of(model, [batch]), model.route(batch))


def test_the_page_of_one_lora_has_no_experts_and_odd_names_are_drawn(tmp_path: Path) -> None:
    table = cosines({"$a_": {"l.0.q": torch.ones(2)}, "b$": {"l.0.q": -torch.ones(2)}})
    empty = pd.DataFrame()
    draw(table, empty, empty, empty, "$x").savefig(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 1000


def test_the_command_writes_a_page_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few: list[Any] = ["--data.init_args.samples_per_epoch", "16", "--data.init_args.workers", "0"]
    few += ["--data.init_args.train_scenes", "50"]
    quiet = [
        "--trainer.logger",
        "false",
        "--trainer.limit_val_batches",
        "0",
        "--trainer.enable_progress_bar",
        "false",
    ]
    main(["fit", "--config", "conventions.yaml", *few, *quiet])
    capsys.readouterr()
    main(["interference", "--ckpt", "last.ckpt", "--samples", "2", "--out", "lab"])
    said = capsys.readouterr().out
    assert "idle experts: none" in said
    assert {path.name for path in Path("lab").iterdir()} == {
        *("gradients.csv", "routing.csv", "experts.csv", "similarity.csv", "interference.png")
    }
    routing = pd.read_csv("lab/routing.csv")
    assert routing["task"].tolist() == [f"convention{index}" for index in range(4)]
    assert pd.read_csv("lab/experts.csv").shape == (4, 10)
    with Image.open("lab/interference.png") as page:
        assert page.width > 1000
