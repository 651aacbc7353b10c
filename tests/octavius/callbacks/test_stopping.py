"""SIGTERM in a run of several processes: a note during training, the end elsewhere; one note ends them all."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from octavius.callbacks.stopping import Stopping


@pytest.fixture
def after() -> Iterator[None]:
    """What SIGTERM did before the test, it does after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("after")
def test_lightning_hears_nothing_of_a_signal_to_one_of_several() -> None:
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    stopping = Stopping()
    stopping.listen(trainer)
    stopping.on_train_batch_start()
    trainer._signal_connector.register_signal_handlers()  # as `fit` does, before its first step
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.asked
    assert not trainer.received_sigterm
    trainer._signal_connector.teardown()
    assert signal.getsignal(signal.SIGTERM) == stopping.hear


@pytest.mark.usefixtures("after")
def test_a_process_alone_is_left_to_lightning() -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = L.Trainer(accelerator="cpu", logger=False)
    Stopping().listen(trainer)
    assert signal.getsignal(signal.SIGTERM) == before
    trainer._signal_connector.register_signal_handlers()
    os.kill(os.getpid(), signal.SIGTERM)
    assert trainer.received_sigterm
    trainer._signal_connector.teardown()


def of_two(other: bool) -> Any:
    """A trainer whose second process was asked to end, or not."""
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda mine, all: (mine and other) if all else mine or other
    )
    return SimpleNamespace(world_size=2, strategy=strategy)


@pytest.mark.parametrize("end", ["on_train_batch_end", "on_validation_start"])
@pytest.mark.parametrize(("mine", "other"), [(True, False), (False, True), (True, True), (False, False)])
def test_the_note_of_one_ends_all(mine: bool, other: bool, end: str) -> None:
    stopping = Stopping()
    stopping.on_train_batch_start()
    if mine:
        stopping.hear(signal.SIGTERM, None)
    if mine or other:
        with pytest.raises(SIGTERMException):
            getattr(stopping, end)(of_two(other))
    else:
        getattr(stopping, end)(of_two(other))


def test_where_no_steps_are_made_the_signal_does_not_wait() -> None:
    stopping = Stopping()
    with pytest.raises(KeyboardInterrupt):
        stopping.hear(signal.SIGTERM, None)
    stopping.on_train_batch_start()
    stopping.on_validation_start(of_two(False))
    with pytest.raises(KeyboardInterrupt):
        stopping.hear(signal.SIGTERM, None)
    stopping.on_validation_start(of_two(True))  # of `octavius validate`: nobody compares notes
