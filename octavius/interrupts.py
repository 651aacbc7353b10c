"""Handling of SIGINT, SIGTERM and SIGHUP, with a hard limit on how long shutting down may take.

A command that is asked to end does so within `LIMIT` seconds, with exit status `STATUS`. By default a signal
raises KeyboardInterrupt, as Ctrl-C does in any Python program. Training waits for a point at which it can be
saved (`octavius.callbacks.stopping`); if none comes within `GRACE` seconds, or a second signal arrives, it is
interrupted where it is.

Python runs signal handlers only between two bytecodes of the main thread, which may hang in C code, in a
library that swallows exceptions, or at interpreter exit. So a watchdog thread gets each signal as well,
through `signal.set_wakeup_fd`, and ends the process once the limit has passed. Time spent writing a
checkpoint does not count.
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
"""Exit status after a signal, whichever it was."""

GRACE = 12.0
"""Seconds that training gets to reach a point at which it can stop."""

LIMIT = 24.0
"""Seconds after which a process that was asked to end is killed by its own watchdog."""

REPEATED = 1.0
"""Seconds within which a repeated signal counts as the same one: process groups and launchers deliver it twice."""


class Interrupts:
    """Signal state of the process. There is one instance, `INTERRUPTS`, since handlers are global to a process.

    Attributes:
        asked: whether a stop signal has arrived.
        patient: whether a first signal only sets `asked`, which the running code polls.
        held: whether the code is in a short critical section, during which no signal raises.
    """

    def __init__(self) -> None:
        """Installs no handlers yet."""
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
        """Handles signals within the block; does nothing if they are handled already, or outside the main thread."""
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
        """Installs the handlers, except for signals that are ignored already (`nohup`, background jobs of a script).

        Args:
            starting: exit at once and without clean-up until `listening` is entered: while libraries are
                imported, an exception could be swallowed or turned into another one.
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
        """Restores the previous handlers."""
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
            KeyboardInterrupt: interrupts the main thread where it is.
            ConnectionError: another process of the run has ended.
        """
        if os.getpid() != self._owner:  # a forked child that has not installed its own handlers yet
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
        """Starts the countdown of `LIMIT` seconds to the end of the process, unless it is running already.

        Args:
            status: exit status if the countdown expires.
            said: error message that is printed then.
        """
        if self._wake is None:
            return
        if self._end is None:
            self._status, self._said = status, said
            self._end = time.monotonic() + LIMIT
        self._nudge()

    def ends(self, status: int, said: str = "") -> None:
        """Like `end_within`, for a process that is ending already: from now on signals raise nothing."""
        self._ending = True
        self.patient = False
        self.end_within(status, said)

    def lost(self, said: str, status: int) -> None:
        """Raises ConnectionError in the main thread, because another process of the run has ended."""
        if self._ending or self.asked or self._wake is None:
            return
        self._lost = said
        self.end_within(status, said)
        self._interrupt()

    def check(self) -> None:
        """Raises what the signal handler deferred, unless it still has to be deferred.

        Raises:
            KeyboardInterrupt: interrupts the main thread where it is.
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
        """Defers signals while a checkpoint is written, however long that takes; then the countdown restarts."""
        self._saving += 1
        try:
            yield
        finally:
            self._saving -= 1
            if self._end is not None:
                self._end = time.monotonic() + LIMIT
        self.check()

    def leave(self, status: int) -> NoReturn:
        """Exits the process, with clean-up if possible, and within `LIMIT` seconds in any case."""
        self._end = None
        self.ends(status)
        for (
            number
        ) in self._before:  # finalisation restores the default handlers, which would kill the process
            signal.signal(number, signal.SIG_IGN)
        if status:
            # Skips interpreter finalisation, which may wait for ever for threads and processes of a broken run.
            end_workers()
            for step in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
                with suppress(BaseException):
                    step()
            os._exit(status)
        raise SystemExit(0)

    def _watch(self, heard: socket.socket) -> None:
        """The watchdog thread: enforces `GRACE` and `LIMIT` whatever the main thread does."""
        nudge = 0.0
        while True:
            waiting = None if self._end is None else 0.2
            if select.select([heard], [], [], waiting)[0]:
                numbers = heard.recv(256)
                if not numbers:
                    return
                if any(number in self._before for number in numbers):
                    self.end_within(STATUS)
            now = time.monotonic()
            if self._end is None or (self._saving and self._lost is None):
                continue
            if now >= self._end:
                if self._said:
                    self._say(f"octavius: error: {self._said}")
                elif not self._ending:
                    self._say(
                        f"octavius: stopped after {LIMIT:g} seconds in code that cannot be interrupted; nothing was "
                        "saved since the last checkpoint"
                    )
                with suppress(BaseException):
                    end_workers()
                os._exit(self._status)
            if self.asked and not self._ending and now - self._first > GRACE and now > nudge:
                nudge, self._hurry = now + 2.0, True
                self._interrupt()

    def _nudge(self) -> None:
        """Wakes the watchdog so that it looks at its deadlines again."""
        if self._wake is not None:
            with suppress(OSError):
                self._wake.send(b"\0")

    def _interrupt(self) -> None:
        """Makes the main thread run the signal handler."""
        # A real signal, because that interrupts a blocking system call too. SIGTERM is preferred to SIGINT, whose
        # handler Lightning may have replaced.
        for number in sorted(self._before, reverse=True)[:1]:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _say(self, text: str) -> None:
        """Writes a line to stderr, unless that would block because nobody reads it."""
        with suppress(OSError, ValueError):
            if select.select([], [2], [], 0)[1]:
                os.write(2, f"{text}\n".encode()[-4000:])


INTERRUPTS = Interrupts()
