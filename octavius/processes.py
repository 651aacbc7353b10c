"""Worker processes that never outlive the process that started them, however it ends.

A process that is killed by SIGKILL runs no clean-up, so its workers have to end by themselves. On Linux the kernel
does it (`PR_SET_PDEATHSIG`), even while a worker is busy in C code; elsewhere a thread watches the parent.
"""

import atexit
import ctypes
import multiprocessing
import multiprocessing.util  # its exit handler must be registered before ours, which is to run first
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

PARENT = "OCTAVIUS_PARENT"
"""Environment variable with the process id of the command that started this one, and ends it with itself."""

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a run to end."""

_PR_SET_PDEATHSIG = 1


def serve(*_: object) -> None:
    """Makes this process a worker: it leaves signals to its parent, and ends with it.

    A terminal's Ctrl-C and a scheduler's SIGTERM reach the whole process group. A worker that ended at once would
    take away the batch that its parent needs to finish the step under way.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)  # inherited from the parent, whose signals these are not
    end_with_parent()


def end_with_parent(number: int | None = None, parent: int | None = None) -> None:
    """Has this process receive a signal when its parent ends, SIGKILL by default.

    Args:
        number: the signal.
        parent: process id that the parent is known to have; where it has another one, it has ended already.
    """
    number = getattr(signal, "SIGKILL", signal.SIGTERM) if number is None else number
    known = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    else:
        threading.Thread(target=_watch_parent, args=(known, number), daemon=True).start()
    own = multiprocessing.parent_process()
    if own is not None and own.pid != os.getppid():  # the process that forked it is a fork server
        threading.Thread(target=_watch_pipe, args=(number,), daemon=True).start()
    # The parent may have ended before the request was made. A worker of multiprocessing is told by a pipe.
    if os.getppid() != known or (own is not None and not own.is_alive()):
        os.kill(os.getpid(), number)


def end_with_starter() -> None:
    """Has a command that another one of ours started end with it; any other command lives on by itself.

    `octavius compare` names itself in the environment: its runs get SIGTERM, so that they save. Lightning starts the
    further processes of a run with `LOCAL_RANK` set; only the first one saves.
    """
    starter = os.environ.pop(PARENT, "")
    if starter.isdecimal():
        end_with_parent(signal.SIGTERM, int(starter))
    elif os.environ.get("LOCAL_RANK", "0") != "0":
        end_with_parent()


def end_workers() -> None:
    """Kills all daemonic children, such as data workers.

    multiprocessing's own exit handler would send them SIGTERM, which they ignore, and then wait without a limit.
    """
    children = [child for child in multiprocessing.active_children() if child.daemon]
    if children and hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGCHLD, signal.SIG_DFL
        )  # torch's handler raises for each data worker that was killed
    for child in children:
        child.kill()


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end with this process, and at once after an error or a signal.

    Raises:
        ChildProcessError: a worker was killed.
    """
    pool = ProcessPoolExecutor(processes, initializer=serve)
    try:
        yield pool
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process was killed, most likely because memory ran out; take fewer processes"
        ) from None
    except BaseException:
        for worker in list(pool._processes.values()):
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _watch_pipe(number: int) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), number)


def _watch_parent(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), number)


atexit.register(end_workers)
