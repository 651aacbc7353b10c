"""Lifetime of child processes: workers die with their parent, however it ends.

A process killed by SIGKILL cannot clean up, so its workers have to notice by themselves. On Linux the kernel
signals them (`PR_SET_PDEATHSIG`), even while they are busy in C code; elsewhere a thread polls the parent.
"""

import atexit
import ctypes
import multiprocessing
import multiprocessing.util  # registers its exit handler; ours comes later, because handlers run in reverse order
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
"""Environment variable with the process id of the Octavius command that started this one."""

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a process to end."""

_PR_SET_PDEATHSIG = 1


def init_worker(*_: object) -> None:
    """Initialises a worker process: it ignores stop signals and ends when its parent does.

    Ctrl-C in a terminal and SIGTERM from a scheduler reach the whole process group. If workers ended at once,
    the parent could not get the batch it needs to finish the current step.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)  # inherited by fork: this worker's signals would be reported to the parent
    end_with_parent()


def end_with_parent(number: int | None = None, parent: int | None = None) -> None:
    """Arranges for this process to receive a signal when its parent ends.

    Args:
        number: the signal, SIGKILL by default.
        parent: expected process id of the parent; if it differs from the actual one, the parent has already
            ended.
    """
    number = getattr(signal, "SIGKILL", signal.SIGTERM) if number is None else number
    known = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    else:
        threading.Thread(target=_watch_parent, args=(known, number), daemon=True).start()
    own = multiprocessing.parent_process()
    if own is not None and own.pid != os.getppid():  # forked by a fork server, so watch the real parent too
        threading.Thread(target=_watch_pipe, args=(number,), daemon=True).start()
    # The parent may have ended before the request above was made, which then never fires.
    if os.getppid() != known or (own is not None and not own.is_alive()):
        os.kill(os.getpid(), number)


def end_with_starter() -> None:
    """Ties a command that another Octavius command started to the life of that one.

    `octavius compare` puts its process id into the environment: its runs get SIGTERM, so that they save a
    checkpoint. Lightning starts the other ranks of a run with `LOCAL_RANK` set; they get SIGKILL, since only
    the first one saves. A command that a user started is left alone.
    """
    starter = os.environ.pop(PARENT, "")
    if starter.isdecimal():
        end_with_parent(signal.SIGTERM, int(starter))
    elif os.environ.get("LOCAL_RANK", "0") != "0":
        end_with_parent()


def end_workers() -> None:
    """Kills all daemonic children, such as data workers.

    The exit handler of multiprocessing would send them SIGTERM, which they ignore, and then wait for ever.
    """
    children = [child for child in multiprocessing.active_children() if child.daemon]
    if children and hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        # torch's handler raises an exception for each data worker that was killed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in children:
        child.kill()


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A process pool whose workers end with this process, and at once after an error or a signal.

    Raises:
        ChildProcessError: a worker was killed.
    """
    pool = ProcessPoolExecutor(processes, initializer=init_worker)
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
