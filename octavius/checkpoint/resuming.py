"""Checks that a run can resume from a checkpoint, before and while Lightning restores its parts.

The types of values are checked when the file is read (`octavius.checkpoint_format.content`). Here its parts are
compared with the run that resumes: loops, callbacks, data, optimizers and schedulers. Lightning itself
restores most of them unchecked and silently skips missing ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from octavius.checkpoint.opened import OpenCheckpoint
from octavius.checkpoint_format.content import differs

OPTIMIZER = ("epoch_loop.automatic_optimization.optim_progress", "optimizer", "step", "total", "completed")
"""Keys that lead to the number of optimizer steps in the state of the fit loop."""


def check_resumable(opened: OpenCheckpoint, trainer: L.Trainer, data: Any, fit: bool) -> None:
    """Checks a checkpoint against the run that is to resume from it.

    Args:
        opened: the checkpoint.
        trainer: the trainer of the run.
        data: its data module, or None.
        fit: whether training is resumed; otherwise optimizers and schedulers are not checked.

    Raises:
        ValueError: a part is missing, has the wrong type, or contradicts another one.
    """
    checkpoint = opened.content
    for said in (
        _missing(checkpoint, fit),
        _loops(checkpoint, trainer),
        _steps(checkpoint) if fit else None,
        _callbacks(checkpoint, trainer),
        _data(checkpoint, data),
    ):
        if said:
            raise ValueError(f"{opened.path}: {said}. Take another checkpoint, or begin anew without --ckpt")


def count_from(trainer: L.Trainer, opened: OpenCheckpoint) -> None:
    """Lets an evaluation log at the epoch and step of its checkpoint, which Lightning restores for `fit` only."""
    step, loop = opened.content["global_step"], trainer.fit_loop
    loop.epoch_progress.current.completed = opened.content["epoch"]
    loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
    loop.epoch_loop._batches_that_stepped = step  # what loggers get as the step


@contextmanager
def restoring(trainer: L.Trainer, path: Path | None) -> Iterator[None]:
    """Turns errors that Lightning or torch raise while restoring a checkpoint into one that names the file.

    Raises:
        ValueError: restoring failed.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # Lightning drops the loaded content once everything is restored: if it is gone, the error came later.
        if path is None or not trainer._checkpoint_connector._loaded_checkpoint or path.name in str(error):
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ValueError(f"{path} does not fit this run and cannot be put in place ({said})") from error


def check_optimizers(trainer: L.Trainer, saved: tuple[int, int]) -> None:
    """Checks restored optimizer and scheduler states against the parameters of this model.

    Args:
        trainer: the trainer of the run.
        saved: number of optimizer and of scheduler states in the checkpoint; 0 if training begins at step 0.

    Raises:
        ValueError: numbers, shapes, settings or step counts do not match.
    """
    said = None
    own = len(trainer.optimizers), len(trainer.lr_scheduler_configs)
    for name, count, wanted in zip(("optimizer_states", "lr_schedulers"), saved, own, strict=True):
        if count not in (0, wanted):
            said = said or f"{name}: it has {count} states, this run needs {wanted}"
    said = said or next(filter(None, map(_optimizer, trainer.optimizers)), None)
    for config in trainer.lr_scheduler_configs:
        said = said or _scheduler(config, trainer)
    if said:
        raise ValueError(
            f"{trainer.ckpt_path}: {said}. Take another checkpoint, or begin anew without --ckpt"
        )


def _missing(checkpoint: Mapping[str, Any], fit: bool) -> str | None:
    wanted = [
        "pytorch-lightning_version",
        *(["optimizer_states", "lr_schedulers", "callbacks", "epoch", "global_step"] * fit),
    ]
    if missing := [key for key in wanted if key not in checkpoint]:
        only = (
            "; it was saved with its weights only, which can be tested"
            if missing[0] == "optimizer_states"
            else ""
        )
        return f"{missing[0]} is missing{only}"
    trained = fit and (
        checkpoint["global_step"] or checkpoint["optimizer_states"] or checkpoint["lr_schedulers"]
    )
    for key in ("optimizer_states", "lr_schedulers", "loops"):
        if trained and not checkpoint.get(key):
            return f"{key} is empty after {checkpoint['global_step']} steps"
    return None


def _loops(checkpoint: Mapping[str, Any], trainer: L.Trainer) -> str | None:
    """Compares the loop states. Checkpoints of `octavius import` have none, so training begins at step 0."""
    if (found := checkpoint.get("loops")) is None:
        return None
    names = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
    return differs(found, {name: getattr(trainer, name).state_dict() for name in names}, "loops")


def _steps(checkpoint: Mapping[str, Any]) -> str | None:
    counted: Any = checkpoint.get("loops", {}).get("fit_loop")
    if counted is None:
        return None
    for key in OPTIMIZER:
        counted = counted[key]
    if counted != checkpoint["global_step"]:
        return f"its loops have counted {counted} steps, but global_step is {checkpoint['global_step']}"
    return None


def _callbacks(checkpoint: Mapping[str, Any], trainer: L.Trainer) -> str | None:
    """Restores each callback's state as a trial, since only the callback itself knows what it accepts."""
    states = checkpoint.get("callbacks") or {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if (state := states.get(callback.state_key)) is None:
            continue
        own = {key: value for key, value in callback.state_dict().items() if key in state}
        if said := differs(state, own, f"callbacks.{type(callback).__name__}"):
            return said
        try:
            callback.load_state_dict(deepcopy(state))
        except Exception as error:
            return f"callbacks.{type(callback).__name__} cannot take its state back ({type(error).__name__}: {error})"
    return None


def _data(checkpoint: Mapping[str, Any], data: Any) -> str | None:
    name = type(data).__qualname__
    if data is None or name not in checkpoint:
        return None
    try:
        data.load_state_dict(deepcopy(checkpoint[name]))
    except Exception as error:
        return f"{name} cannot take its place in the data back ({type(error).__name__}: {error})"
    return None


def _optimizer(optimizer: Any) -> str | None:
    for group in optimizer.param_groups:
        known = {key: value for key, value in optimizer.defaults.items() if not isinstance(value, bool)}
        if said := differs(group, known, "optimizer_states.param_groups"):
            return said
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    shapes = f"{tuple(value.shape)}, its parameter {tuple(parameter.shape)}"
                    return f"optimizer_states: {key} of a parameter has the shape {shapes}"
                if key == "step" and float(value) < 0:
                    return f"optimizer_states: a parameter has made {float(value):g} steps"
    return None


def _scheduler(config: Any, trainer: L.Trainer) -> str | None:
    state = config.scheduler.state_dict()
    rates = [float(group["lr"]) for group in config.scheduler.optimizer.param_groups]
    wanted = {
        key: value
        for key, value in {"base_lrs": rates, "_last_lr": rates, "last_epoch": 0}.items()
        if key in state
    }
    if said := differs(state, wanted, "lr_schedulers"):
        return said
    # A difference of one is fine: a signal may stop training between an optimizer step and the scheduler's.
    last_step = state.get("last_epoch", 0)
    if config.interval == "step" and config.frequency == 1 and abs(last_step - trainer.global_step) > 1:
        return (
            f"lr_schedulers: the schedule is at step {last_step}, the training at step {trainer.global_step}"
        )
    return None
