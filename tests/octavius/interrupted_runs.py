"""Short trainings of a tiny model that stop at a chosen point, and their logs, for tests of exact resumption."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.position import Position
from octavius.callbacks.stopping import Stopping
from octavius.checkpoint.saving import Checkpoint
from octavius.decoder.decoder import Decoder
from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.training import OctaviusModule
from tests.octavius.settings import lora_moe
from tests.octavius.tiny_runs import Pieces

PLACES = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_validation_start",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
    "forward",
    "within the optimizer",
)
"""Hooks of callbacks, and two places between them."""


STEPS = {"gradient_clip_val": 0.3, "accumulate_grad_batches": 2}


class Stopper(L.Callback):
    """Does something at the given visit of a place, the first of which is 0."""

    def __init__(self, place: str, visit: int, act: Callable[[], None]) -> None:
        self.place, self.left, self.act = place, visit, act

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name == own.get("place"):
            return lambda *_, **__: self.come_by()
        return object.__getattribute__(self, name)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.place == "forward":
            pl_module.model.register_forward_hook(lambda *_: self.come_by())  # type: ignore[union-attr, operator]
        if self.place == "within the optimizer":
            trainer.optimizers[0].register_step_post_hook(lambda *_: self.come_by())

    def come_by(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.act()


class Tell(L.Callback):
    """Of a run in another process: makes a file at the first visit of a hook, and then does what is wanted."""

    def __init__(self, place: str, file: str, act: str = "wait", rank: int = 0) -> None:
        """Takes the hook, the file, and one of wait (a while), raise, stick (for ever, in C) and vanish (SIGKILL)."""
        self.place, self.file, self.act, self.rank = place, Path(file), act, rank

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name == own.get("place"):
            return lambda trainer, *_, **__: self.come_by(trainer)
        return object.__getattribute__(self, name)

    def come_by(self, trainer: L.Trainer) -> None:
        if self.file.exists() or trainer.global_rank != self.rank:
            return
        self.file.write_text(str(os.getpid()))
        if self.act == "raise":
            raise RuntimeError("raised by a callback")
        if self.act == "stick":
            ctypes.CDLL(None).sleep(120)
            ctypes.CDLL(None).sleep(120)
        if self.act == "vanish":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)


@dataclass
class Notes(L.Callback):
    """What a training logged: by step its loss and learning rate, by step the scores of an evaluation."""

    losses: dict[int, tuple[float, float]] = field(default_factory=dict)
    scores: dict[int, dict[str, float]] = field(default_factory=dict)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.note(trainer)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.note(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.note(trainer)

    def note(self, trainer: L.Trainer) -> None:
        if "train/loss" in trainer.logged_metrics:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.losses.setdefault(trainer.global_step, (float(trainer.logged_metrics["train/loss"]), rate))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        self.scores[trainer.global_step] = {
            key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")
        }

    def __hash__(self) -> int:
        return id(self)


def module(decoder: Path, **lora: Any) -> OctaviusModule:
    """The same at each call: dropout, and a gate with noise."""
    torch.manual_seed(0)
    experts = lora_moe(**{"experts": 3, "rank": 2, "alpha": 4.0, "dropout": 0.1, "jitter": 0.1, **lora})
    made = OctaviusModule(Decoder(str(decoder)), {"image": PrecomputedFeatures(3, 8)}, experts, lr=0.01)
    for name, parameter in made.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.1)
    torch.manual_seed(1)
    return made


def train(
    folder: Path,
    decoder: Path,
    *more: L.Callback,
    resume: bool = False,
    evaluate: bool = True,
    workers: int = 0,
    batching: str = "padded",
    lora: dict[str, Any] | None = None,
    data_class: type[Pieces] = Pieces,
    checkpoint: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Notes, dict[str, Tensor]]:
    """Trains to the end or to what `more` does; gives what it logged, and the trained tensors at the end.

    Checkpoints are `last.ckpt` in the folder.
    """
    notes = Notes()
    kept = {"dirpath": folder, "filename": "last", "enable_version_counter": False, "save_on_exception": True}
    stopping = Stopping()
    callbacks = [Position(), stopping, notes, *more, *([Evaluation()] if evaluate else [])]
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[*callbacks, Checkpoint(**{**kept, **(checkpoint or {})})],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        limit_val_batches=None if evaluate else 0,
        **{"max_epochs": 2, "num_sanity_val_steps": 0, **STEPS, **options},
    )
    stopping.listen(trainer)
    made = module(decoder, **(lora or {}))
    data = data_class(processor=made.processor, batch_size=2, batching=batching)
    data.workers = workers
    path = folder / "last.ckpt"
    with suppress(Halt, SystemExit):
        trainer.fit(made, data, ckpt_path=path if resume and path.exists() else None, weights_only=True)
    state = {
        name: tensor.detach().clone() for name, tensor in made.named_parameters() if tensor.requires_grad
    }
    return notes, state


class Halt(Exception):
    """What ends a training in a test."""


def halt(kind: type[BaseException] = Halt) -> None:
    """Raises it."""
    raise kind


def same(found: Notes, expected: Notes) -> str:
    """Empty if all that was logged is in the other run too, to the last bit; else the first difference."""
    for step, pair in found.losses.items():
        if expected.losses.get(step) != pair:
            return f"step {step}: {pair}, not {expected.losses.get(step)}"
    for step, scores in found.scores.items():
        if expected.scores.get(step) != scores:
            return f"scores after step {step}: {scores}, not {expected.scores.get(step)}"
    return ""
