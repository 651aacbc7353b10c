"""A signal to end comes in, the end of a run of several processes goes out: after one step for all, and saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Stopping(L.Callback):
    """Ends a run of several processes on SIGTERM: all after the same step, so that they can save together.

    Lightning's own handler sends a message to the other processes from wherever the signal finds this one
    (`dist.broadcast` in `_SignalConnector._sigterm_notifier_fn`). They are elsewhere in the step and wait for
    another message, so that nobody goes on (Lightning's issue 20806). Here the handler only takes a note; the
    processes compare notes where each of them comes by.

    Attributes:
        asked: whether the signal came, and waits for the end of the step.
    """

    def __init__(self) -> None:
        """Has heard nothing yet."""
        self.asked = False
        self._stepping = False

    def listen(self, trainer: L.Trainer) -> None:
        """Takes SIGTERM over from Python at once, and from Lightning when that would; alone it does well."""
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self.hear)
            trainer._signal_connector._sigterm_notifier_fn = self.hear  # type: ignore[assignment]

    def hear(self, *_: Any) -> None:
        """Takes a note during training; where no step's end is near, ends this process as Ctrl-C does.

        Raises:
            KeyboardInterrupt: no training step is under way. The other processes are ended with this one.
        """
        if not self._stepping:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_start(self, *_: Any) -> None:
        """From here on a signal waits."""
        self._stepping = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Compares notes."""
        self._agree(trainer)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Compares notes for the last time before an evaluation, in which a signal does not wait."""
        training, self._stepping = self._stepping, False
        if training:
            self._agree(trainer)

    def _agree(self, trainer: L.Trainer) -> None:
        """Ends every process if one was asked to; the exception is Lightning's for this."""
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            raise SIGTERMException


@contextmanager
def ending(trainer: L.Trainer) -> Iterator[None]:
    """Around a stage of the trainer: after an error nobody waits for this process, and a signal is told as one.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM ended the stage.
        ConnectionError: another process ended.
    """
    try:
        yield
    except SystemExit:  # how Lightning ends after Ctrl-C or SIGTERM
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if trainer.world_size > 1 and "by peer" in str(error):  # a connection closed or reset
            raise ConnectionError("another process of this run ended; what it said stands above") from None
        raise
    finally:
        if not trainer.state.finished and trainer.strategy.launcher is not None:
            # The processes that were started for this run wait for it; they hear no softer signal there.
            trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
