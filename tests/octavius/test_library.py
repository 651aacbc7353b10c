"""A routed model in `transformers.Trainer` learns what it learns in a plain loop, step for step."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from octavius.decoder.decoder import Decoder
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.lora_moe import LoRAMoEConfig, get_routed_model
from octavius.training import OctaviusModule

STEPS, ACCUMULATED, LR, BETAS, DECAY = 5, 2, 0.02, (0.9, 0.95), 1e-3
ANSWERS = ("a ring", "two cats that sleep on a very long red mat", "no", "a dog in the dark")
QUESTIONS = ("What is it?", "Describe the picture.", "Is it red, or is it of another colour?")


class Diary(L.Callback):
    """Notes the loss of every optimiser step: the mean over its answer tokens, and auxiliary losses."""

    def __init__(self, factors: dict[Any, float]) -> None:
        self.factors = factors
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        if rest[-1] % ACCUMULATED == ACCUMULATED - 1:
            found = trainer.callback_metrics
            extra = sum(factor * found[f"train/loss/{name}"] for name, factor in self.factors.items())
            self.losses.append(float(found["train/loss"] + extra))


class InOrder(IterableDataset[dict[str, torch.Tensor]]):
    """Our batches as trainers of transformers take them, in our order."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        names = ("input_ids", "attention_mask", "labels")
        for batch in self.batches:
            question = {"question_ids": batch.gate_ids, "question_mask": batch.gate_mask}
            yield {name: getattr(batch, name) for name in names} | question


def our_loop(module: OctaviusModule, batches: list[Batch], folder: Path) -> list[float]:
    assert module.model.lora is not None
    diary = Diary(module.model.lora.losses)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        accumulate_grad_batches=ACCUMULATED,
        default_root_dir=folder,
        callbacks=[diary],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return diary.losses


def their_loop(model: Any, batches: list[Batch], folder: Path) -> list[float]:
    parameters = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(parameters, LR, BETAS, weight_decay=DECAY)
    rise = round(0.1 * STEPS) or 1
    schedule = LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, max(0.0, (STEPS - step) / max(1, STEPS - rise)))
    )
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        gradient_accumulation_steps=ACCUMULATED,
        per_device_train_batch_size=1,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        args,
        data_collator=lambda rows: rows[0],
        train_dataset=InOrder(batches),
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize(
    ("gate", "extra"), [("instance", {}), ("instance", {"cv": 0.1, "switch": 0.05}), ("token", {"cv": 0.1})]
)
def test_both_loops_lose_and_learn_the_same(
    decoder_folder: Path,
    make_sample: Callable[..., Sample],
    write: Callable[..., Batch],
    tmp_path: Path,
    gate: Any,
    extra: dict[Any, float],
) -> None:
    settings = LoRAMoEConfig(3, 2, 4.0, 0.0, gate=gate, losses=extra)
    module = OctaviusModule(
        Decoder(str(decoder_folder)), {}, settings, lr=LR, betas=BETAS, weight_decay=DECAY
    )
    batches = [
        write(
            module.processor,
            *(
                (make_sample(f"{index}{row}"), QUESTIONS[(index + row) % 3], ANSWERS[(index + row) % 4])
                for row in range(1 + index % 3)
            ),
        )
        for index in range(STEPS * ACCUMULATED)
    ]
    routed = get_routed_model(AutoModelForCausalLM.from_pretrained(decoder_folder), settings)
    start = {name: part.detach().clone() for name, part in named(module).items()}
    routed.load_state_dict(start)
    ours, theirs = our_loop(module, batches, tmp_path), their_loop(routed, batches, tmp_path)
    assert len(ours) == STEPS
    assert theirs == pytest.approx(ours, rel=1e-5)
    for name, part in named(module).items():
        assert not torch.equal(part, start[name])
        assert torch.allclose(routed.get_parameter(name), part, atol=1e-4), name


def named(module: OctaviusModule) -> dict[str, torch.Tensor]:
    """What the module trains, by the names of the language model."""
    return {
        name.removeprefix("model.decoder.lm." if ".lm." in name else "model."): part
        for name, part in module.named_parameters()
        if part.requires_grad
    }
