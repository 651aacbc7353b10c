"""Auxiliary losses in the step that they belong to, and gates with a state through checkpoint and resume."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from octavius.checkpoint_format.weights import keep_trainable, read_checkpoint
from octavius.decoder.decoder import Decoder
from octavius.gate_fitting import fit_gate_to_updates, updates_of
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Media, References, Sample
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe

MakeModule = Callable[..., OctaviusModule]
QUESTIONS = ("Say something.", "What do you see in this picture?", "Is there a dog?", "How many red things?")
ANSWERS = ("a ring", "two cats that sleep on a very long red mat", "no", "seven")


@pytest.fixture
def make_module(decoder_folder: Path) -> MakeModule:
    """Makes the same text-only module at each call, with these settings of the experts."""

    def make(**lora: Any) -> OctaviusModule:
        torch.manual_seed(0)
        settings = lora_moe(**{"experts": 3, "rank": 2, "alpha": 4.0, "dropout": 0.0, **lora})
        return OctaviusModule(Decoder(str(decoder_folder)), {}, settings, lr=0.01)

    return make


class Questions(InstructionDataModule):
    """Eight questions of four kinds with their answers."""

    def train_sets(self) -> list[TrainSet]:
        return [
            TrainSet(
                [
                    Sample(
                        f"s{n}", "captioning", "train", {}, QUESTIONS[n % 4], References((ANSWERS[n % 4],))
                    )
                    for n in range(8)
                ]
            )
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:  # noqa: ARG002
        return []


class Notes(L.Callback):
    """Keeps batches, losses, gradients and logged values; saves and ends the run after so many batches."""

    def __init__(self, cut: int | None = None, path: Path | None = None) -> None:
        self.left, self.path = cut, path
        self.batches: list[Batch] = []
        self.losses: list[float] = []
        self.gradients: dict[str, Tensor] = {}
        self.logged: dict[str, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self.losses.append(float(rest[0]["loss"]))
        self.batches.append(rest[1])
        named = pl_module.named_parameters()
        self.gradients = {name: part.grad.clone() for name, part in named if part.grad is not None}
        self.logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                assert self.path is not None
                trainer.save_checkpoint(self.path)
                raise KeyError("killed")


def fit(module: OctaviusModule, notes: Notes, resume: Path | None = None, **options: Any) -> Notes:
    """Trains with batches of two; a cut run is caught."""
    torch.manual_seed(0)
    data = Questions(2, 3, workers=0, processor=module.processor)
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[notes],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **{"max_steps": 4, **options},
    )
    try:
        trainer.fit(module, data, ckpt_path=resume)
    except KeyError:
        assert notes.path is not None
    return notes


@pytest.mark.parametrize("gate", ["instance", "token"])
def test_an_auxiliary_loss_is_the_mean_of_the_steps_batches_by_their_share(
    make_module: MakeModule, gate: str
) -> None:
    """Summed answer losses over all tokens, plus factor times the token-weighed mean of the batches' losses."""
    losses = {"cv": 0.5, "certainty_balance": 2.0}
    module, fresh = make_module(gate=gate, losses=losses), make_module(gate=gate, losses=losses)
    notes = fit(module, Notes(), max_steps=1, accumulate_grad_batches=3, gradient_clip_val=0)
    outs = [fresh.model(batch) for batch in notes.batches]
    tokens = [len(out.losses) for out in outs]
    assert len(set(tokens)) > 1
    total = sum(out.losses.sum() for out in outs) / sum(tokens)
    means = sum(out.auxiliary * count for out, count in zip(outs, tokens, strict=True)) / sum(tokens)
    (total + 0.5 * means[0] + 2.0 * means[1]).backward()
    for name, part in fresh.named_parameters():
        if part.requires_grad:
            assert part.grad is not None
            torch.testing.assert_close(notes.gradients[name], part.grad, rtol=1e-4, atol=1e-6)
    assert notes.logged["train/loss"] == pytest.approx(float(total.detach()), rel=1e-5)
    assert notes.logged["train/loss/cv"] == pytest.approx(float(means[0].detach()), rel=1e-5)
    assert notes.logged["train/loss/certainty_balance"] == pytest.approx(float(means[1].detach()), rel=1e-5)


@pytest.mark.parametrize(
    "lora",
    [
        {"gate": "token", "jitter": 0.3, "losses": {"switch": 0.1}},
        {"gate": "cluster", "clusters": 4},
        {"gate": "source"},
        {"gate": "affinity"},
        {"per_layer": True, "jitter": 0.3, "dropout": 0.2},
    ],
)
def test_a_resumed_run_goes_on_as_one_that_went_through(
    make_module: MakeModule, tmp_path: Path, lora: dict[str, Any]
) -> None:
    whole = fit(make_module(**lora), Notes())
    first = fit(make_module(**lora), Notes(2, tmp_path / "cut.ckpt"))
    rest = fit(make_module(**lora), Notes(), resume=tmp_path / "cut.ckpt")
    assert first.losses == whole.losses[:2]
    assert rest.losses == whole.losses[2:]


def test_the_affinity_gate_is_fitted_before_the_first_step_and_changes_nothing_else(
    make_module: MakeModule,
) -> None:
    module, other = make_module(gate="affinity"), make_module(gate="source")
    before = {name: part.clone() for name, part in module.model.named_parameters() if "gate" not in name}
    begun = {}

    class Look(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
            assert all(part.grad is None for part in module.parameters())
            assert module.model.training
            assert module.model.gate is not None
            begun["fitted"] = bool(module.model.gate.get_buffer("fitted"))
            begun["same"] = all(
                torch.equal(part, before[name])
                for name, part in module.model.named_parameters()
                if name in before
            )
            begun["device"] = str(module.model.gate.get_buffer("centre").device)

    fit(module, Look(), max_steps=1)
    fit(other, Notes(), max_steps=1)
    assert begun == {"fitted": True, "same": True, "device": "cpu"}
    assert {*keep_trainable(module, module.state_dict())} == {*keep_trainable(other, other.state_dict())}


def test_what_the_fit_leaves_alone_keeps_its_values(make_module: MakeModule) -> None:
    module = make_module(gate="affinity", inputs=["media"])
    gate = module.model.gate
    assert gate is not None
    before = {name: part.clone() for name, part in gate.named_parameters()}
    fit_gate_to_updates(module.model, module.processor, [Questions().train_sets()[0].samples], 4)
    changed = [name for name, part in gate.named_parameters() if not torch.equal(part, before[name])]
    assert changed == ["weight"]


def test_a_gradient_that_is_not_finite_is_left_out(make_module: MakeModule) -> None:
    module, samples = make_module(gate="affinity"), Questions().train_sets()[0].samples
    with torch.no_grad():
        next(part for name, part in module.named_parameters() if name.endswith("lora_A")).fill_(torch.nan)
    with pytest.raises(ValueError, match="none of 8 can be read or has a finite gradient"):
        updates_of(module.model, module.processor, samples, 4)


def test_unreadable_samples_are_left_out_of_the_gates_fit_if_the_data_skips_them(
    make_module: MakeModule,
) -> None:
    module = make_module(gate="affinity")
    samples = Questions().train_sets()[0].samples
    broken = replace(samples[0], id="broken", media={"image": Media(path=Path("missing.png"))})
    arguments = module.model, module.processor, [*samples, broken], 4
    with pytest.raises(ValueError, match="image"):
        updates_of(*arguments)
    questions, sketches = updates_of(*arguments, skip=(ValueError, OSError))
    assert questions == [sample.question for sample in samples]
    assert [len(part) for part in sketches] == [len(samples)] * 2
    assert all(bool(part.any()) for part in sketches)


def test_clusters_are_in_the_checkpoint_and_needed_in_it(make_module: MakeModule, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    module, other = make_module(gate="cluster", clusters=4), make_module(gate="cluster", clusters=4)
    fit(module, Notes(1, path))
    checkpoint = read_checkpoint(path)
    assert {"model.gate.centroids", "model.gate.fitted", "model.gate.weight"} < set(checkpoint["state_dict"])
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"], strict=False)
    assert torch.equal(other.model.gate.get_buffer("centroids"), module.model.gate.get_buffer("centroids"))  # type: ignore[union-attr]
    del checkpoint["state_dict"]["model.gate.centroids"]
    with pytest.raises(ValueError, match=r"Missing in the file: model\.gate\.centroids"):
        other.on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=r"Not in this model: model\.gate\.centroids, model\.gate\.fitted"):
        make_module().on_load_checkpoint(read_checkpoint(path))


@pytest.mark.parametrize("train", ["experts", "gate"])
def test_what_is_not_trained_stays_as_it_is_and_is_saved(
    make_module: MakeModule, tmp_path: Path, train: str
) -> None:
    """A run that is resumed with another choice goes on from the same tensors."""
    module, path = make_module(train=train), tmp_path / "cut.ckpt"
    experts = [name for name in module.state_dict() if "lora_" in name]
    for name in experts:
        nn.init.normal_(module.get_parameter(name), std=0.1)
    before = {name: part.clone() for name, part in module.state_dict().items()}
    fit(module, Notes(2, path))
    changed = {name for name, part in module.state_dict().items() if not torch.equal(part, before[name])}
    assert changed == {"model.gate.weight", *(experts if train == "experts" else [])}
    state = read_checkpoint(path)["state_dict"]
    assert {*state} == {"model.gate.weight", *experts}
    assert make_module(train="all").frozen_fingerprint == module.frozen_fingerprint
    again = make_module(train=train)
    fit(again, Notes(), path)
    assert all(torch.equal(again.state_dict()[name], before[name]) for name in before.keys() - changed)
