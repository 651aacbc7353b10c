"""What SIGINT, SIGTERM and SIGHUP do to a command, and how long its end may take.

Every command that is asked to end does so within `LIMIT` seconds with status `STATUS`. At most places a signal
raises KeyboardInterrupt, as Ctrl-C does in any Python program. A training waits for a place where nothing is half
done (`octavius.callbacks.stopping`); if none comes within `GRACE` seconds, or a second signal arrives, it ends where
it is.

A Python signal handler runs only between two instructions of the main thread, and that may hang in C code, in a
library that swallows exceptions, or at the interpreter's exit. Therefore a thread is told of each signal as well,
through `signal.set_wakeup_fd`, and ends the process when the limit is over. Writing a checkpoint does not count.
"""

import atexit
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from octavius.processes import STOP_SIGNALS, end_workers

STATUS = 130
"""Exit status after a signal, of whatever kind."""

GRACE = 12.0
"""Seconds that a training has to come to a place where it can stop."""

LIMIT = 24.0
"""Seconds after which a process that is to end is ended."""

REPEATED = 1.0
"""Seconds within which a second signal counts as the same one: process groups and launchers deliver it twice."""


class Interrupts:
    """The state of a command with regard to signals; there is one, `INTERRUPTS`, as signals belong to the process.

    Attributes:
        asked: whether a signal came.
        patient: whether a first signal is only noted, because the code looks at `asked` by itself.
        held: whether what is under way must not be left half-way, by any signal; it takes a moment at most.
    """

    def __init__(self) -> None:
        """Listens to nothing yet."""
        self.asked = self.patient = self.held = self._starting = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}
        self._wake: socket.socket | None = None
        self._forget()

    def _forget(self) -> None:
        self.asked = self.patient = self.held = self._ending = self._hurry = False
        self._saving = 0
        self._lost: str | None = None
        self._first = 0.0
        self._end: float | None = None
        self._status, self._said = STATUS, ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles signals within a block; does nothing where they are handled already, or in another thread."""
        self._starting = False
        if self._wake is not None or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self, starting: bool = False) -> None:
        """Takes over the signals, except those that were switched off (`nohup`, a background job of a script).

        Args:
            starting: end at once and without clean-up until `listening` is entered: libraries that are being
                imported may swallow an exception, or turn it into another.
        """
        self._forget()
        self._starting = starting
        self._owner = os.getpid()
        heard, self._wake = socket.socketpair()
        heard.setblocking(False)
        self._wake.setblocking(False)
        self._before = {
            number: signal.signal(number, self.hear)
            for number in STOP_SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(heard,), daemon=True, name="interrupts").start()

    def stop(self) -> None:
        """Gives the signals back."""
        assert self._wake is not None
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._wake.close()
        self._wake = None
        self._forget()

    def hear(self, *_: Any) -> None:
        """The signal handler.

        Raises:
            KeyboardInterrupt: the main thread is to end where it is.
            ConnectionError: another process of the run has ended.
        """
        if os.getpid() != self._owner:  # a child before it has handlers of its own
            return
        if self._starting:
            self._say("octavius: stopped")
            os._exit(STATUS)
        if self._lost is None:
            now, first = time.monotonic(), not self.asked
            if first:
                self.asked, self._first = True, now
            self.end_within(STATUS)
            self._hurry = self._hurry or now - self._first > REPEATED or (first and not self.patient)
            if not (self._hurry and (first or now - self._first > REPEATED)):
                return
        self.check()

    def end_within(self, status: int, said: str = "") -> None:
        """Lets the process live for `LIMIT` seconds from now, unless its end is set already.

        Args:
            status: the exit status when they are over.
            said: what is printed then.
        """
        if self._wake is None:
            return
        if self._end is None:
            self._status, self._said = status, said
            self._end = time.monotonic() + LIMIT
        self._nudge()

    def ends(self, status: int, said: str = "") -> None:
        """As `end_within`, and from now on signals interrupt nothing: the end is under way."""
        self._ending = True
        self.patient = False
        self.end_within(status, said)

    def lost(self, said: str, status: int) -> None:
        """Ends the main thread with a ConnectionError, because another process of the run has ended."""
        if self._ending or self.asked or self._wake is None:
            return
        self._lost = said
        self.end_within(status, said)
        self._interrupt()

    def check(self) -> None:
        """Raises what a handler would have raised that came while it was held.

        Raises:
            KeyboardInterrupt: the main thread is to end where it is.
            ConnectionError: another process of the run has ended.
        """
        if self.held or self._saving or self._ending:
            return
        if self._lost is not None:
            self._ending = True
            raise ConnectionError(self._lost)
        if self._hurry:
            raise KeyboardInterrupt

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Holds signals while a checkpoint is written, however long that takes; the limit begins anew after it."""
        self._saving += 1
        try:
            yield
        finally:
            self._saving -= 1
            if self._end is not None:
                self._end = time.monotonic() + LIMIT
        self.check()

    def leave(self, status: int) -> NoReturn:
        """Ends the process, in order where that is possible, and within the limit in any case."""
        self._end = None
        self.ends(status)
        for number in self._before:  # the interpreter gives its own handlers back before it has ended
            signal.signal(number, signal.SIG_IGN)
        if status:
            # What the interpreter does at exit may wait without end for threads and processes of a broken run.
            end_workers()
            for step in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
                with suppress(BaseException):
                    step()
            os._exit(status)
        raise SystemExit(0)

    def _watch(self, heard: socket.socket) -> None:
        """The thread that is told of signals and of limits, and sees to them whatever the main thread does."""
        nudge = 0.0
        while True:
            waiting = None if self._end is None else 0.2
            if select.select([heard], [], [], waiting)[0]:
                told = heard.recv(256)
                if not told:
                    return
                if any(number in self._before for number in told):
                    self.end_within(STATUS)
            now = time.monotonic()
            if self._end is None or (self._saving and self._lost is None):
                continue
            if now >= self._end:
                if self._said:
                    self._say(f"octavius: error: {self._said}")
                with suppress(BaseException):
                    end_workers()
                os._exit(self._status)
            if self.asked and not self._ending and now - self._first > GRACE and now > nudge:
                nudge, self._hurry = now + 2.0, True
                self._interrupt()

    def _nudge(self) -> None:
        """Has the thread look at its limits again."""
        if self._wake is not None:
            with suppress(OSError):
                self._wake.send(b"\0")

    def _interrupt(self) -> None:
        """Has the main thread run the handler, as a signal would."""
        # SIGTERM before SIGINT, which Lightning may have switched off. A real signal, because it ends a system call.
        for number in sorted(self._before, reverse=True)[:1]:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _say(self, text: str) -> None:
        """Prints a line, if that is possible without waiting for whoever reads it."""
        with suppress(OSError, ValueError):
            if select.select([], [2], [], 0)[1]:
                os.write(2, f"{text}\n".encode()[-4000:])


INTERRUPTS = Interrupts()
