"""Short runs of a tiny model and their checkpoints, on one process or two, for `test_processes.py`.

Run as a script by each of two processes, it does everything that the tests of `test_processes.py` look at.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, TrainSet
from octavius.callbacks.evaluation import Evaluation
from octavius.decoder.decoder import Decoder
from octavius.distributed.fsdp2 import FSDP2
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.batch import Batch
from octavius.instruction.sample import ClassName, Gold, Media, References, Sample
from octavius.instruction.tokenizer import load_tokenizer
from octavius.lora_moe import LoRAMoEConfig
from octavius.training import OctaviusModule

TOKENIZER = Path(__file__).resolve().parents[2] / "checkpoints" / "miniature" / "language"
NAMES = ("circle", "square", "star", "cross", "ring")
TEXTS = (
    "a red circle",
    "two blue stars above a green ring",
    "a cross",
    "one small square left of a big star and of three rings",
)
CLIP = 0.3


class Pieces(InstructionDataModule):
    """Six pictures to name and six texts to say; evaluation sets of 5, 1 and 3 samples."""

    def __init__(self, **options: Any) -> None:
        super().__init__(workers=0, eval_batch_size=2, **options)

    def train_sets(self) -> list[TrainSet]:
        return [TrainSet(pictures("a", 6)), TrainSet(texts("b", 6))]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        lonely = EvalSet("lonely", texts("l", 1))
        several = [EvalSet("pictures", pictures("a", 5)), lonely, EvalSet("texts", texts("b", 3))]
        return [lonely] if stage == "test" else several


class Notes(L.Callback):
    """Writes down every step: what was logged, which modalities came, and the norms of the gradients used."""

    def __init__(self, cut: Path | None = None) -> None:
        self.cut = cut
        self.logged: list[dict[str, float]] = []
        self.modalities: list[list[str]] = []
        self.norms: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        batch: Batch = rest[1]
        self.modalities.append(sorted(batch.media))
        if trainer.fit_loop._should_accumulate():
            return
        self.logged.append({key: float(value) for key, value in trainer.logged_metrics.items()})
        trained = [(name, tensor) for name, tensor in pl_module.named_parameters() if tensor.requires_grad]
        self.norms.append({name: float(whole(tensor.grad).norm()) for name, tensor in trained})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        if self.cut is not None and trainer.current_epoch == 0:
            trainer.save_checkpoint(self.cut)


def whole(tensor: Tensor | None) -> Tensor:
    """A gradient, gathered from all processes where it is sharded."""
    assert tensor is not None
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def pictures(prefix: str, count: int) -> list[Sample]:
    grids = np.random.default_rng(0).normal(size=(count, 3, 8)).astype(np.float32)
    golds = [ClassName(NAMES[index % len(NAMES)], NAMES) for index in range(count)]
    return [
        sample(f"{prefix}{index}", "classification", gold, {"image": Media(array=grid)})
        for index, (gold, grid) in enumerate(zip(golds, grids, strict=True))
    ]


def texts(prefix: str, count: int) -> list[Sample]:
    pairs = [(TEXTS[index % len(TEXTS)], TEXTS[(index + 1) % len(TEXTS)]) for index in range(count)]
    return [
        sample(f"{prefix}{index}", "captioning", References(pair), {}) for index, pair in enumerate(pairs)
    ]


def sample(name: str, task: str, gold: Gold, media: dict[str, Media]) -> Sample:
    return Sample(name, task, "small", media, "", gold)


def write_decoder(folder: Path, tied: bool) -> Path:
    """A LLaMA of two layers and width 32 that has read texts and names a few times, with its tokenizer."""
    backend = load_tokenizer(TOKENIZER).backend
    config = LlamaConfig(
        vocab_size=len(backend),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=backend.pad_token_id,
        bos_token_id=backend.bos_token_id,
        eos_token_id=backend.eos_token_id,
        initializer_range=0.2,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    backend.save_pretrained(folder)
    model = make(folder, experts=None)
    fit(folder, "reading", model, "auto", 1, max_epochs=12, evaluate=False)
    model.model.decoder.lm.save_pretrained(folder)
    return folder


def make(
    decoder: Path, experts: int | None = 3, dtype: str = "float32", gate: str = "instance", **options: Any
) -> OctaviusModule:
    """The module, the same at each call; no experts train the whole decoder."""
    torch.manual_seed(0)
    lora = None if experts is None else LoRAMoEConfig(experts, rank=2, alpha=4.0, dropout=0.0, gate=gate)  # type: ignore[arg-type]
    encoders = {"image": PrecomputedFeatures(3, 8)}
    module = OctaviusModule(Decoder(str(decoder), dtype), encoders, lora, lr=0.01, **options)  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        if name.endswith("lora_B"):  # zero at the start, which would hide what the experts do
            torch.nn.init.normal_(parameter, std=0.1)
    return module


def fit(
    folder: Path,
    name: str,
    model: OctaviusModule,
    strategy: str | FSDP2,
    processes: int,
    *,
    batch_size: int = 4,
    evaluate: bool = True,
    resume: Path | None = None,
    pieces: Callable[..., InstructionDataModule] = Pieces,
    **options: Any,
) -> tuple[L.Trainer, InstructionDataModule, dict[str, Any]]:
    """Trains two epochs of three steps, evaluates after each; keeps `{name}.ckpt` and `{name}-cut.ckpt`."""
    notes = Notes(folder / f"{name}-cut.ckpt" if resume is None else None)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy,
        logger=CSVLogger(folder, name, version="log"),
        callbacks=[notes, *([Evaluation()] if evaluate else [])],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        limit_val_batches=None if evaluate else 0,
        **{"max_epochs": 2, "gradient_clip_val": CLIP, **options},
    )
    data = pieces(processor=model.processor, batch_size=batch_size)
    trainer.fit(model, data, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{name}.ckpt")
    kept = {"logged": notes.logged, "modalities": notes.modalities, "norms": notes.norms}
    return trainer, data, {**kept, "metrics": metrics(trainer)}


def metrics(trainer: L.Trainer) -> dict[str, float]:
    """What this process knows of the last evaluation."""
    found = trainer.callback_metrics.items()
    return {key: float(value) for key, value in found if key.startswith(("val/", "test/"))}


def answers(model: OctaviusModule, rank: int) -> list[str]:
    """Answers to the first two questions, longer ones on a higher rank."""
    length = 3 + 6 * rank
    batch = next(iter(Pieces(processor=model.processor).val_dataloader()))
    return model.train(False).answer(batch, length, min_new_tokens=length)[0]


def two_processes(folder: Path) -> dict[str, dict[str, Any]]:
    """Every run that takes two processes, by name; decoders and `one-cut.ckpt` are in the folder already."""
    tied, untied = folder / "tied", folder / "untied"
    notes: dict[str, dict[str, Any]] = {}
    options: dict[str, Any]
    for kind in ("ddp", "fsdp"):

        def strategy(kind: str = kind) -> str | FSDP2:
            return FSDP2() if kind == "fsdp" else kind

        model = make(tied)
        trainer, data, notes[kind] = fit(folder, kind, model, strategy(), 2, batch_size=2)
        trainer.validate(model, data)
        notes[f"{kind}-again"] = {"metrics": metrics(trainer)}
        trainer.test(model, data)
        notes[f"{kind}-lonely"] = {"metrics": metrics(trainer)}
        notes[f"{kind}-answers"] = {"texts": [answers(model, trainer.global_rank) for _ in range(2)]}
        name = f"{kind}-accumulated"
        options = {"batch_size": 1, "accumulate_grad_batches": 2, "evaluate": False}
        notes[name] = fit(folder, name, make(tied), strategy(), 2, **options)[2]
        for start in (kind, "one"):
            name, cut = f"{kind}-after-{start}", folder / f"{start}-cut.ckpt"
            options = {"batch_size": 2, "evaluate": False, "resume": cut}
            notes[name] = fit(folder, name, make(tied), strategy(), 2, **options)[2]
    for name, options in VARIANTS.items():
        decoder = untied if name.startswith("untied") else tied
        model = make(decoder, **options)
        model.save_decoder = str(folder / f"saved-{name}") if name.endswith("whole") else None
        options = {"batch_size": 2, "evaluate": False, "pieces": pieces_of(name)}
        notes[name] = fit(folder, name, model, FSDP2(), 2, **options)[2]
    try:
        fit(folder, "refused", make(tied, experts=2), FSDP2(), 2, resume=folder / "one-cut.ckpt")
    except ValueError as error:
        notes["refused"] = {"message": str(error)}
    return notes


VARIANTS: dict[str, dict[str, Any]] = {
    "untied": {},
    "tied-whole": {"experts": None},
    "untied-whole": {"experts": None},
    "one-expert": {"experts": 1},
    "checkpointed": {"activation_checkpointing": True},
    "bfloat16": {"dtype": "bfloat16"},
    "packed": {},
    "affinity": {"gate": "affinity"},
}


def pieces_of(variant: str) -> Callable[..., InstructionDataModule]:
    """The data module of a variant."""
    return partial(Pieces, batching="packed") if variant == "packed" else Pieces


if __name__ == "__main__":
    torch.set_num_threads(1)
    home, rank = Path(sys.argv[1]), sys.argv[2]
    torch.save(two_processes(home), home / f"notes-{rank}.pt")
