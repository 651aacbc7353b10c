"""Ends a training in order after a signal, an error, or the loss of another rank.

Lightning's own signal handlers are disabled. On SIGINT it raises from wherever training is. SIGTERM it checks
only between training batches, never during an evaluation; and with several ranks rank 0 sends the others a
message from inside the handler while they may wait for a different one (Lightning issue 20806).
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
    """Ends training between two batches after a signal, on all ranks after the same batch.

    Between two batches no optimizer step is half done, metrics are logged, and ranks can save together. Ranks
    agree there, and between batches of an evaluation, because a signal may reach only one of them. A single
    process is interrupted at once during an evaluation.
    """

    def listen(self, trainer: L.Trainer) -> None:
        """Disables Lightning's handler of SIGTERM."""
        trainer._signal_connector._sigterm_notifier_fn = _ignore  # type: ignore[assignment]

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """From the first batch on, a signal waits for the end of the batch."""
        self._agree(trainer)
        INTERRUPTS.patient = True

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Ends the run here if any rank received a signal since the last check."""
        self._between(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Checks within an evaluation too, in which all ranks run the same number of batches."""
        self._between(trainer)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Returns to waiting for the end of a batch."""
        INTERRUPTS.patient = _trains(trainer)

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Defers signals, so that none leaves the weights in the middle of a step."""
        INTERRUPTS.held = True

    def on_train_batch_end(self, *_: Any) -> None:
        """Stops deferring: the step is complete and recorded (`octavius.callbacks.position` runs first)."""
        INTERRUPTS.held = False
        INTERRUPTS.check()

    def on_train_end(self, *_: Any) -> None:
        """A signal interrupts at once again, since no batch follows."""
        INTERRUPTS.patient = False

    def on_exception(
        self,
        trainer: L.Trainer,  # noqa: ARG002
        pl_module: L.LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        """Starts the time limit for shutting down."""
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
        """Raises on every rank if any received a signal; Checkpoint then saves on all of them together."""
        if trainer.world_size == 1:
            if INTERRUPTS.asked:
                raise KeyboardInterrupt
        elif trainer.strategy.reduce_boolean_decision(INTERRUPTS.asked, all=False):
            raise SIGTERMException


@contextmanager
def ending(trainer: L.Trainer) -> Iterator[None]:
    """Context of a trainer stage: after an error, ends other processes of the run and translates the exception.

    Raises:
        KeyboardInterrupt: a signal ended the stage, or arrived too late to do so.
        ConnectionError: another rank ended.
        ChildProcessError: a data worker was killed.
    """
    try:
        yield
    except SystemExit:  # Lightning exits so after a KeyboardInterrupt
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
    """Kills all processes that were started for this run: it is over, and they have nothing to save."""
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(kill)  # other ranks may hang in a collective with this one
    end_workers()  # data workers of loaders that Lightning did not shut down


def _trains(trainer: L.Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _ignore(*_: Any) -> None:
    """Replaces Lightning's handler of SIGTERM."""
