"""Signals during training: deferred to the end of a step, agreed on by all processes, immediate the second time."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from octavius.callbacks.stopping import Stopping, ending
from octavius.interrupts import INTERRUPTS, REPEATED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def listening() -> Iterator[None]:
    """Signals are handled as in a command; after the test as before it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with INTERRUPTS.listening():
        yield
    signal.signal(signal.SIGINT, before)


def trainer_of(asked: list[bool], training: bool = True) -> Any:
    """A trainer of so many processes, of which those were asked to end; the first one is this."""

    def reduce(mine: bool, all: bool) -> bool:
        answers = [mine, *asked[1:]]
        return min(answers) if all else max(answers)

    strategy = SimpleNamespace(reduce_boolean_decision=reduce)
    state = SimpleNamespace(fn="fit" if training else "validate")
    return SimpleNamespace(world_size=len(asked), strategy=strategy, state=state, sanity_checking=False)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_end_of_the_batch(number: int) -> None:
    stopping, trainer = Stopping(), trainer_of([False])
    stopping.on_train_batch_start(trainer)
    send(number)
    stopping.on_before_optimizer_step(trainer)
    stopping.on_train_batch_end(trainer)
    with pytest.raises(KeyboardInterrupt):
        stopping.on_train_batch_start(trainer)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("number", SIGNALS)
def test_before_the_first_batch_it_does_not_wait(number: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        send(number)


@pytest.mark.usefixtures("listening")
def test_the_same_signal_twice_at_once_is_one() -> None:
    stopping, trainer = Stopping(), trainer_of([False])
    stopping.on_train_batch_start(trainer)
    send(signal.SIGTERM)
    send(signal.SIGTERM)


@pytest.mark.usefixtures("listening")
def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping, trainer = Stopping(), trainer_of([False])
    stopping.on_train_batch_start(trainer)
    send(signal.SIGINT)
    monkeypatch.setattr(INTERRUPTS, "_first", INTERRUPTS._first - REPEATED)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


@pytest.mark.usefixtures("listening")
def test_not_even_a_second_signal_leaves_the_optimizers_step_half_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping, trainer = Stopping(), trainer_of([False])
    stopping.on_train_batch_start(trainer)
    send(signal.SIGINT)
    monkeypatch.setattr(INTERRUPTS, "_first", INTERRUPTS._first - REPEATED)
    stopping.on_before_optimizer_step(trainer)
    send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stopping.on_train_batch_end(trainer)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("place", ["on_train_batch_start", "on_validation_start", "on_validation_batch_end"])
@pytest.mark.parametrize("asked", [[True, False], [False, True], [True, True], [False, False]])
def test_one_that_is_asked_ends_all_together(asked: list[bool], place: str) -> None:
    stopping, trainer = Stopping(), trainer_of(asked)
    if asked[0]:
        stopping.on_train_batch_start(trainer_of([False, False]))
        send(signal.SIGTERM)
    if any(asked):
        with pytest.raises(SIGTERMException):
            getattr(stopping, place)(trainer)
    else:
        getattr(stopping, place)(trainer)


@pytest.mark.usefixtures("listening")
def test_alone_it_does_not_wait_during_an_evaluation() -> None:
    stopping, trainer = Stopping(), trainer_of([False])
    stopping.on_train_batch_start(trainer)
    stopping.on_validation_start(trainer)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


@pytest.mark.usefixtures("listening")
def test_nobody_compares_notes_where_nothing_is_trained() -> None:
    stopping, trainer = Stopping(), trainer_of([False, True], training=False)
    stopping.on_validation_start(trainer)
    stopping.on_validation_batch_end(trainer)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


@pytest.mark.usefixtures("listening")
def test_the_end_of_a_run_is_not_interrupted() -> None:
    Stopping().on_exception(trainer_of([False]), L.LightningModule(), KeyboardInterrupt())
    for number in SIGNALS:
        send(number)


@pytest.mark.usefixtures("listening")
def test_a_checkpoint_is_written_to_its_end() -> None:
    done = []

    def save() -> None:
        with INTERRUPTS.saving():
            send(signal.SIGINT)
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        save()
    assert done


@pytest.mark.usefixtures("listening")
def test_lightning_does_not_handle_sigterm() -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False)
    Stopping().listen(trainer)
    trainer._signal_connector.register_signal_handlers()  # as `fit` does
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)
    assert not trainer.received_sigterm
    trainer._signal_connector.teardown()


def test_switched_off_signals_stay_so() -> None:
    """As `nohup` and shells do for background jobs."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with INTERRUPTS.listening():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_killed_data_worker_is_told_as_such() -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False)
    error = RuntimeError("DataLoader worker (pid(s) 42) exited unexpectedly")
    with pytest.raises(ChildProcessError, match=r"most likely because memory ran out .*42"), ending(trainer):
        raise error
