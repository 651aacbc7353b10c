"""The loss is exact over a whole step, a resumed run equals one that never stopped, and checkpoints are strict."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from transformers import LlamaForCausalLM

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from octavius.callbacks.evaluation import Evaluation
from octavius.checkpoint_format.weights import read_checkpoint, trainable_names
from octavius.decoder.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.evaluation.answers import Decoding
from octavius.evaluation.generation import answer_batch
from octavius.instruction.batch import IGNORE_INDEX, Batch
from octavius.instruction.sample import Boxes, Choice, LabelledBox, Media, References, Sample
from octavius.lora_moe import LoRAMoEConfig
from octavius.training import OctaviusModule

MakeModule = Callable[..., OctaviusModule]
CAPTIONS = (
    "a ring",
    "two cats that sleep on a very long red mat",
    "no",
    "a dog in the dark and a small cross",
)


@pytest.fixture
def make_module(decoder_folder: Path) -> MakeModule:
    """Makes the same module at each call."""

    def make(experts: int | None = 3, dropout: float = 0.0, rank: int = 2, **options: Any) -> OctaviusModule:
        torch.manual_seed(0)
        lora = None if experts is None else LoRAMoEConfig(experts, rank, 4.0, dropout)
        encoders = {"image": PrecomputedFeatures(3, 5, noise=dropout)}
        options = {"lr": 0.01, **options}
        return OctaviusModule(Decoder(str(options.pop("decoder", decoder_folder))), encoders, lora, **options)

    return make


def samples(count: int) -> list[Sample]:
    """Captions with and without a picture, questions with options, and detections, in turn."""
    made = []
    for index in range(count):
        array = np.random.default_rng(index).normal(size=(3, 5)).astype(np.float32)
        media = {"image": Media(array=array)} if index % 2 else {}
        kinds = [
            ("captioning", "", References((CAPTIONS[index % 4],))),
            ("vqa", "Which?", Choice(("red", "blue", "green"), index % 3)),
            ("detection", "", Boxes((LabelledBox("cat", (0.1, 0.1, 0.5, 0.9)),) * (1 + index % 2))),
        ]
        task, question, gold = kinds[index % 3]
        made.append(Sample(f"s{index}", task, "train", media, question, gold))
    return made


class Data(InstructionDataModule):
    """Sixteen samples of three tasks; three to evaluate."""

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(samples(16))]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        return [EvalSet(stage, samples(3))]


class Diary(L.Callback):
    """Notes each batch and its loss, each step's learning rate, and the gradients that the optimiser got."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.seen: list[tuple[list[str], float]] = []
        self.rates: list[float] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, *rest: Any) -> None:
        self.rates.append(rest[2].param_groups[0]["lr"])

    def on_train_batch_end(self, *rest: Any) -> None:
        trainer, pl_module, outputs, batch = rest[:4]
        self.batches.append(batch)
        self.seen.append(([sample.id for sample in batch.samples], float(outputs["loss"])))
        if not trainer.fit_loop._should_accumulate():
            named = pl_module.named_parameters()
            self.gradients.append({name: part.grad.clone() for name, part in named if part.grad is not None})


class Cut(L.Callback):
    """Saves a checkpoint after so many batches, as `ModelCheckpoint` does, and ends the run like a crash."""

    def __init__(self, batches: int, path: Path) -> None:
        self.left, self.path = batches, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            trainer.save_checkpoint(self.path)
            raise KeyError("killed")


def make_trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"logger": False, **options},
    )


def fit(
    module: OctaviusModule,
    batch_size: int = 2,
    resume: Path | None = None,
    cut: Cut | None = None,
    seed: int = 0,
    **options: Any,
) -> Diary:
    """Trains and gives the notes; a cut run is caught."""
    torch.manual_seed(seed)
    diary = Diary()
    callbacks = [diary, Evaluation(4)] + ([] if cut is None else [cut])
    data = Data(batch_size, 3, workers=0, processor=module.processor)
    trainer = make_trainer(*callbacks, **{"gradient_clip_val": 1.0, **options})
    try:
        trainer.fit(module, data, ckpt_path=resume)
    except KeyError:
        assert cut is not None
    return diary


def weights(module: OctaviusModule) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("loss_norm", ["token", "sample"])
def test_four_times_one_is_once_four(make_module: MakeModule, loss_norm: str) -> None:
    parts, whole = make_module(loss_norm=loss_norm), make_module(loss_norm=loss_norm)
    fresh = {name: part.detach().clone() for name, part in weights(whole).items()}
    small = fit(parts, 1, accumulate_grad_batches=4, max_steps=2)
    large = fit(whole, 4, max_steps=2)
    assert [name for ids, _ in small.seen for name in ids] == [name for ids, _ in large.seen for name in ids]
    assert len(small.gradients) == len(large.gradients) == 2
    for one, two in zip(small.gradients, large.gradients, strict=True):
        assert set(one) == set(two) == set(fresh)
        for name, grad in one.items():
            torch.testing.assert_close(grad, two[name], rtol=1e-4, atol=1e-6)
    # Adam divides by a gradient's size, so that what rounding does to a tiny one shows in the weight.
    for name, part in weights(parts).items():
        torch.testing.assert_close(part, weights(whole)[name], rtol=0, atol=1e-5)
    assert all((part - fresh[name]).abs().max() > 1e-4 for name, part in weights(parts).items())


def divisor(loss_norm: str, batches: list[Batch]) -> int:
    if loss_norm == "token":
        return sum(int((batch.labels != IGNORE_INDEX).sum()) for batch in batches)
    if loss_norm == "sample":
        return sum(len(batch) for batch in batches)
    return sum(
        len(batch) * (batch.labels.shape[1] - 1) for batch in batches
    )  # one prediction less than tokens


@pytest.mark.parametrize("loss_norm", ["token", "sample", "positions"])
def test_gradients_are_those_of_the_definition(make_module: MakeModule, loss_norm: str) -> None:
    """A step that should take three batches and finds two, as at the end of an epoch."""
    module, fresh = make_module(loss_norm=loss_norm), make_module()
    limits = {"limit_train_batches": 2, "accumulate_grad_batches": 3, "max_epochs": 1, "gradient_clip_val": 0}
    diary = fit(module, 3, **limits)
    assert len(diary.gradients) == 1
    total = torch.zeros(())
    for batch in diary.batches:
        out = fresh.model(batch)
        for row in range(len(batch)):
            losses = out.losses[out.rows == row]
            total = total + (losses.mean() if loss_norm == "sample" else losses.sum())
    (total / divisor(loss_norm, diary.batches)).backward()
    for name, part in weights(fresh).items():
        assert part.grad is not None
        torch.testing.assert_close(diary.gradients[0][name], part.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("warmup", "shares"),
    [
        (0.25, [1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        (0.0, [1, 7 / 7, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7]),
    ],
)
def test_warm_up_and_decay(make_module: MakeModule, warmup: float, shares: list[float]) -> None:
    diary = fit(make_module(warmup=warmup, lr=0.5), 2, max_epochs=1)
    assert diary.rates == pytest.approx([0.5 * share for share in shares])


def test_steps_without_an_end_are_refused(make_module: MakeModule) -> None:
    with pytest.raises(ValueError, match="set max_epochs or max_steps"):
        fit(make_module(), max_epochs=-1)


@pytest.mark.parametrize("fast", [True, False])
def test_the_language_model_is_held_in_float32_where_bfloat16_is_slow(
    make_module: MakeModule, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr("octavius.training.has_bfloat16", lambda _: fast)
    module = make_module()
    frozen = {name: part for name, part in module.model.decoder.named_parameters() if not part.requires_grad}
    for part in frozen.values():
        part.data = part.data.bfloat16()
    before = {name: part.detach().clone() for name, part in frozen.items()}
    fit(module, max_epochs=1)
    assert {part.dtype for part in frozen.values()} == {torch.bfloat16 if fast else torch.float32}
    assert all(torch.equal(part, before[name].to(part.dtype)) for name, part in frozen.items())


def test_losses_are_logged_by_task(make_module: MakeModule, tmp_path: Path) -> None:
    fresh, logger = make_module(), CSVLogger(tmp_path, version="log")
    diary = fit(
        make_module(lr=1e-12), 3, logger=logger, max_epochs=1, log_every_n_steps=1, limit_val_batches=0
    )
    table = pd.read_csv(Path(logger.log_dir) / "metrics.csv")
    assert len(table) == len(diary.batches) == 5
    last = dict.fromkeys(("captioning", "vqa", "detection"), math.nan)
    for step, batch in enumerate(diary.batches):
        with torch.no_grad():
            out = fresh.model(batch)
        assert table["train/loss"][step] == pytest.approx(float(out.losses.mean()), rel=1e-4)
        for task in {sample.task for sample in batch.samples}:
            rows = torch.tensor([sample.task == task for sample in batch.samples])
            last[task] = float(out.losses[rows[out.rows]].mean())
        logged = {task: table[f"train/loss/{task}"][step] for task in last}
        assert logged == pytest.approx(last, rel=1e-4, nan_ok=True)


def test_training_drops_and_recomputes(make_module: MakeModule) -> None:
    """A decoder is loaded in evaluation mode, in which neither dropout nor checkpointing would happen."""
    plain, checkpointed = make_module(dropout=0.3), make_module(dropout=0.3, activation_checkpointing=True)
    calls: list[int] = []
    layer: Any = checkpointed.model.decoder.lm.model.layers[0].self_attn.q_proj.base
    layer.register_forward_hook(lambda *_: calls.append(1))
    first, second = (fit(module, max_steps=2, limit_val_batches=0) for module in (plain, checkpointed))
    assert len(calls) == 2 * 2  # two steps, forward and again in backward
    assert first.seen == second.seen
    for one, two in zip(first.gradients, second.gradients, strict=True):
        for name, grad in one.items():
            torch.testing.assert_close(two[name], grad)
    dropless = fit(make_module(), max_steps=2, limit_val_batches=0)
    assert dropless.seen[1] != first.seen[1]
    named = [(name, part) for name, part in plain.named_modules() if not name.startswith("model.encoders")]
    assert all(part.training for _, part in named)


@pytest.fixture(scope="module")
def through() -> dict[str, tuple[Diary, OctaviusModule]]:
    """Runs that went through, by their options, so that each is done once."""
    return {}


@pytest.mark.parametrize(
    ("cut", "options"),
    [
        pytest.param(3, {}, marks=pytest.mark.slow),  # in an epoch
        pytest.param(8, {}, marks=pytest.mark.slow),  # at its end
        pytest.param(11, {}, marks=pytest.mark.slow),  # in the second one
        (6, {"accumulate_grad_batches": 2}),
        pytest.param(5, {"val_check_interval": 3}, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on(
    make_module: MakeModule,
    tmp_path: Path,
    through: dict[str, tuple[Diary, OctaviusModule]],
    cut: int,
    options: dict[str, Any],
) -> None:
    """Dropout, noise, evaluations in between, another seed of the process: batches and losses stay."""
    options = {"max_epochs": 2, **options}
    if str(options) not in through:
        module = make_module(dropout=0.2)
        through[str(options)] = fit(module, **options), module
    whole, went_through = through[str(options)]
    assert len(whole.seen) == 16
    path, resumed = tmp_path / "cut.ckpt", make_module(dropout=0.2)
    killed = fit(make_module(dropout=0.2), cut=Cut(cut, path), **options)
    assert killed.seen == whole.seen[:cut]
    for part in weights(resumed).values():
        part.data += 1
    rest = fit(resumed, resume=path, seed=123, **options)
    assert rest.seen == whole.seen[cut:]
    assert rest.rates == whole.rates[len(whole.rates) - len(rest.rates) :]
    for name, part in weights(resumed).items():
        assert torch.equal(part, weights(went_through)[name])


def saved(module: OctaviusModule, folder: Path) -> Path:
    """The checkpoint of a short run."""
    path = folder / "run.ckpt"
    fit(module, cut=Cut(2, path), max_epochs=1)
    return path


def test_a_checkpoint_holds_what_was_trained(make_module: MakeModule, tmp_path: Path) -> None:
    module = make_module()
    path = saved(module, tmp_path)
    checkpoint = read_checkpoint(path)  # weights_only: tensors and plain types
    assert set(checkpoint["state_dict"]) == trainable_names(module) == set(weights(module))
    assert len(checkpoint["optimizer_states"]) == 1
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(weights(module))
    assert checkpoint["Data"] == {"epoch": 0, "batch": 2}
    assert not any("encoders" in name or ".base." in name for name in checkpoint["state_dict"])
    values = sum(part.numel() for part in weights(module).values())
    assert (
        path.stat().st_size < 3 * 4 * values + 100_000
    )  # parameters and two moments of AdamW, and little else
    other = make_module()
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"], strict=False)
    assert all(torch.equal(part, weights(module)[name]) for name, part in weights(other).items())


def refused(module: OctaviusModule, path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(Evaluation(1)).test(
            module, Data(2, workers=0, processor=module.processor), ckpt_path=path
        )
    with pytest.raises(ValueError, match=message):
        fit(module, resume=path, max_epochs=1)


def test_a_checkpoint_of_another_model_is_refused(
    make_module: MakeModule, tmp_path: Path, decoder_folder: Path
) -> None:
    path = saved(make_module(), tmp_path)
    refused(
        make_module(rank=3),
        path,
        r"of another model.*Other shapes: \S+lora_A: \(6, 32\) in the file, \(9, 32\) here",
    )
    refused(make_module(experts=1), path, r"of another model.*Not in this model: model\.gate\.weight")
    refused(
        make_module(experts=None),
        path,
        r"of another model.*Missing in the file: model\.decoder\S+.* and \d+ more",
    )
    lm = LlamaForCausalLM.from_pretrained(decoder_folder)
    lm.model.layers[1].mlp.up_proj.weight.data[0, 0] += 1e-3
    lm.save_pretrained(tmp_path / "other")
    make_module().processor.prompts.tokenizer.backend.save_pretrained(str(tmp_path / "other"))
    refused(
        make_module(decoder=tmp_path / "other"),
        path,
        "the frozen weights differ: the checkpoint was tuned on",
    )


def test_a_checkpoint_without_a_tensor_is_refused(make_module: MakeModule, tmp_path: Path) -> None:
    checkpoint = torch.load(saved(make_module(), tmp_path), weights_only=True)
    del checkpoint["state_dict"]["model.gate.weight"]
    torch.save(checkpoint, tmp_path / "less.ckpt")
    refused(
        make_module(),
        tmp_path / "less.ckpt",
        r"Missing in the file: model\.gate\.weight\. Not in this model: none",
    )


def test_answers_of_a_step_are_those_without_autocast(make_module: MakeModule) -> None:
    """As `octavius predict` gives them: the trainer's precision is of the training."""
    module = make_module().eval()
    module.decoding = Decoding(max_new_tokens=4)
    batch = next(iter(Data(2, 3, workers=0, processor=module.processor).test_dataloader()))
    expected = answer_batch(module, batch, module.decoding)
    assert [(item.set_name, item.sample.benchmark) for item in expected] == [("test", "train")] * 3
    with torch.autocast("cpu", torch.bfloat16):
        assert module.test_step(batch, 0)["answers"] == expected
        assert module.validation_step(batch, 0)["answers"] == expected
