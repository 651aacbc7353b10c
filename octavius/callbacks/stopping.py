"""How a stage of the trainer ends after a signal, an error, or the loss of another process.

Lightning's own handlers are not used. After SIGINT it raises from wherever the training is; SIGTERM it looks at only
between training batches, never during an evaluation, and of several processes the first one sends a message to the
others from inside the handler while they wait for another message (Lightning's issue 20806).
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from octavius.interrupts import INTERRUPTS, STATUS
from octavius.processes import end_workers


class Stopping(L.Callback):
    """Ends a training between two batches after a signal; of several processes all after the same batch.

    Between two batches nothing is half done, what was measured is logged, and processes can save together. They agree
    there and between the batches of an evaluation, because a signal may reach only one of them. A process that is
    alone does not wait during an evaluation.
    """

    def listen(self, trainer: L.Trainer) -> None:
        """Keeps Lightning from handling SIGTERM besides."""
        trainer._signal_connector._sigterm_notifier_fn = _ignore  # type: ignore[assignment]

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """From the first batch on a signal waits for the end of the batch."""
        self._agree(trainer)
        INTERRUPTS.patient = True

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Compares notes before an evaluation; what a process alone was told before ends it here."""
        self._between(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Compares notes within an evaluation: all processes run the same number of batches."""
        self._between(trainer)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Training goes on."""
        INTERRUPTS.patient = _trains(trainer)

    def on_before_optimizer_step(self, *_: Any) -> None:
        """No signal may leave the weights half-way through a step."""
        INTERRUPTS.held = True

    def on_train_batch_end(self, *_: Any) -> None:
        """The step is done and noted (`octavius.callbacks.position` comes first)."""
        INTERRUPTS.held = False
        INTERRUPTS.check()

    def on_train_end(self, *_: Any) -> None:
        """No batch follows for which a signal could wait."""
        INTERRUPTS.patient = False

    def on_exception(
        self,
        trainer: L.Trainer,  # noqa: ARG002
        pl_module: L.LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        """From here on time is limited."""
        INTERRUPTS.held = False
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            INTERRUPTS.ends(STATUS)
        else:
            INTERRUPTS.ends(
                1, f"{type(exception).__name__}: {exception}; the run did not end by itself after it"
            )

    def _between(self, trainer: L.Trainer) -> None:
        if not _trains(trainer):
            return
        self._agree(trainer)
        INTERRUPTS.patient = trainer.world_size > 1

    def _agree(self, trainer: L.Trainer) -> None:
        """Ends every process if one was asked to, each with an exception that lets them save together."""
        if trainer.world_size == 1:
            if INTERRUPTS.asked:
                raise KeyboardInterrupt
        elif trainer.strategy.reduce_boolean_decision(INTERRUPTS.asked, all=False):
            raise SIGTERMException


@contextmanager
def ending(trainer: L.Trainer) -> Iterator[None]:
    """Around a stage of the trainer: after an error nobody waits for this process, and a signal is told as one.

    Raises:
        KeyboardInterrupt: a signal ended the stage, or came too late to do so.
        ConnectionError: another process ended.
        ChildProcessError: a data worker was killed.
    """
    try:
        yield
    except SystemExit:  # how Lightning ends after KeyboardInterrupt
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if trainer.world_size > 1 and "by peer" in str(error):  # a connection closed or reset
            raise ConnectionError("another process of this run ended; what it said stands above") from None
        if "DataLoader worker" in str(error) and "Original Traceback" not in str(error):
            raise ChildProcessError(
                f"a data worker was killed, most likely because memory ran out ({_first_line(error)}); take fewer "
                "(--data.init_args.workers) or smaller batches"
            ) from None
        raise
    finally:
        INTERRUPTS.patient = INTERRUPTS.held = False
        if not trainer.state.finished:
            _end_processes(trainer)
    if INTERRUPTS.asked:
        raise KeyboardInterrupt


def _end_processes(trainer: L.Trainer) -> None:
    """Ends everything that was started for a run which is over: none of it has anything to save."""
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(kill)  # the other processes may wait for this one
    end_workers()  # of loaders that Lightning did not shut down


def _trains(trainer: L.Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _ignore(*_: Any) -> None:
    """What Lightning does on SIGTERM now."""
