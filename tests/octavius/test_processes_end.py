"""Workers end with their parent process, and a process that is asked to end does, however it is stuck."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octavius import processes
from octavius.processes import worker_pool
from tests.selection import mostly_slow

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running(
    tmp_path: Path, code: str, limits: str = "GRACE, LIMIT = 0.4, 1.5"
) -> Iterator[subprocess.Popen[str]]:
    """A Python process with that code, once it has made the file `ready`; its group is gone afterwards."""
    names = [f"interrupts.{name.strip()}" for name in limits.split("=")[0].split(",")]
    head = f"""
        import os, signal, sys, time
        from pathlib import Path
        from octavius import interrupts
        from octavius.interrupts import INTERRUPTS
        {", ".join(names)} ={limits.split("=")[1]}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def ready():
            Path("ready").write_text("")
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: (tmp_path / "ready").exists() or run.poll() is not None)
        yield run
    finally:
        if alive(run.pid):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def wait_for(condition: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


STUCK = {
    "nothing": "time.sleep(60)",
    "swallowing": """
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
    """,
    "blocked in C": """
        import threading, ctypes
        ctypes.CDLL(None).pause.restype = None
        lock = ctypes.CDLL(None)
        while True:
            lock.sleep(60)
    """,
    "at its exit": """
        import atexit
        atexit.register(time.sleep, 60)
    """,
    "for a thread": """
        import threading
        threading.Thread(target=time.sleep, args=(60,)).start()
    """,
    "for a child that ignores SIGTERM": """
        import multiprocessing
        from octavius.processes import init_worker
        def work():
            init_worker()
            Path("served").write_text("")
            time.sleep(60)
        multiprocessing.get_context("fork").Process(target=work, daemon=True).start()
        while not Path("served").exists():
            time.sleep(0.01)
    """,
}


@pytest.mark.parametrize("stuck", mostly_slow(STUCK, 4))
@pytest.mark.parametrize(
    "number",
    [pytest.param(one, marks=[] if one == signal.SIGTERM else [pytest.mark.slow]) for one in SIGNALS],
)
def test_a_process_that_is_asked_to_end_does(tmp_path: Path, number: int, stuck: str) -> None:
    code = f"""
status = 0
INTERRUPTS.start()
try:
    ready()
    exec({textwrap.dedent(STUCK[stuck])!r})
    time.sleep(60)
except KeyboardInterrupt:
    status = 130
INTERRUPTS.leave(status)
"""
    with running(tmp_path, code) as run:
        if "child" in stuck:
            wait_for((tmp_path / "served").exists)
        else:
            time.sleep(0.1)
        os.kill(run.pid, number)
        run.wait(20)
        assert run.returncode == 130
        wait_for(lambda: not alive(run.pid), 5)


@pytest.mark.parametrize("stuck", ["at its exit", "for a thread", "for a child that ignores SIGTERM"])
@pytest.mark.parametrize("status", [0, *(pytest.param(status, marks=pytest.mark.slow) for status in (1, 2))])
def test_a_process_that_is_done_ends_with_its_status(tmp_path: Path, status: int, stuck: str) -> None:
    code = f"""
INTERRUPTS.start()
ready()
exec({textwrap.dedent(STUCK[stuck])!r})
INTERRUPTS.leave({status})
"""
    with running(tmp_path, code) as run:
        run.wait(20)
        assert run.returncode == status
        wait_for(lambda: not alive(run.pid), 5)


def test_a_checkpoint_may_take_longer_than_the_limit(tmp_path: Path) -> None:
    code = """
INTERRUPTS.start()
try:
    with INTERRUPTS.saving():
        ready()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            time.sleep(0.05)
        Path("saved").write_text("")
except KeyboardInterrupt:
    INTERRUPTS.leave(130)
"""
    with running(tmp_path, code) as run:
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait(20) == 130
        assert (tmp_path / "saved").exists()


def test_a_signal_while_libraries_are_imported_ends_at_once(tmp_path: Path) -> None:
    code = """
INTERRUPTS.start(starting=True)
ready()
try:
    time.sleep(60)
except BaseException:
    time.sleep(60)
"""
    with running(tmp_path, code) as run:
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(20) == 130
        assert run.stdout is not None
        assert run.stdout.read() == "octavius: stopped\n"


def test_a_lost_process_ends_the_first_one(tmp_path: Path) -> None:
    code = """
import threading
INTERRUPTS.start()
threading.Timer(0.2, INTERRUPTS.lost, ("process 1 of this run was killed by signal 9", 2)).start()
ready()
try:
    time.sleep(60)
except ConnectionError as error:
    print(error)
    INTERRUPTS.leave(2)
"""
    with running(tmp_path, code) as run:
        assert run.wait(20) == 2
        assert run.stdout is not None
        assert run.stdout.read() == "process 1 of this run was killed by signal 9\n"


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn"])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, how: str) -> None:
    (tmp_path / "worked.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom octavius.processes import init_worker\n"
        "def work(name):\n    init_worker()\n    Path(name).write_text(str(os.getpid()))\n    time.sleep(60)\n"
    )
    code = f"""
sys.path.insert(0, os.getcwd())
import multiprocessing, worked
context = multiprocessing.get_context("{how}")
for name in ("a", "b"):
    context.Process(target=worked.work, args=(name,), daemon=True).start()
while not (Path("a").exists() and Path("b").exists() and Path("b").read_text()):
    time.sleep(0.01)
ready()
time.sleep(60)
"""
    with running(tmp_path, code) as run:
        run.kill()
        run.wait()
        wait_for(lambda: not any(works(tmp_path / name) for name in "ab"), 10)


def works(file: Path) -> bool:
    """Whether the process whose number is in a file is there, and no zombie."""
    stat = Path("/proc") / file.read_text() / "stat"
    return stat.exists() and ") Z" not in stat.read_text()


def test_a_command_that_ours_started_is_asked_to_end_with_it(tmp_path: Path) -> None:
    child = (
        "import os, signal, time; from pathlib import Path; from octavius.processes import end_with_starter\n"
        "signal.signal(signal.SIGTERM, lambda *_: (Path('heard').write_text(''), os._exit(0)))\n"
        "end_with_starter(); Path('ready').write_text(''); time.sleep(60)"
    )
    code = f"""
import subprocess
from octavius.processes import PARENT
subprocess.Popen([sys.executable, "-c", {child!r}], env=os.environ | {{PARENT: str(os.getpid())}}).wait()
"""
    with running(tmp_path, code) as run:
        run.kill()
        wait_for((tmp_path / "heard").exists, 10)


def square(value: int) -> int:
    return value**2


def fail(value: int) -> int:
    if value == 3:
        raise ValueError("three")
    time.sleep(60)
    return value


def vanish(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_maps_in_order() -> None:
    with worker_pool(2) as pool:
        assert list(pool.map(square, range(20))) == [value**2 for value in range(20)]


def test_a_pool_is_not_waited_for_after_an_error() -> None:
    begin = time.monotonic()

    def use() -> None:
        with worker_pool(2) as pool:
            futures = [pool.submit(fail, value) for value in (3, 1)]
            futures[0].result()

    with pytest.raises(ValueError, match="three"):
        use()
    assert time.monotonic() - begin < 20


def test_a_killed_pool_worker_is_told_as_such() -> None:
    with pytest.raises(ChildProcessError, match="most likely because memory ran out"), worker_pool(2) as pool:
        list(pool.map(vanish, range(4)))


def test_every_loader_has_workers_that_leave_signals_to_their_parent() -> None:
    """Its own, or those of a function that gives the options of all of a module's loaders."""
    for path in [*(ROOT / "octavius").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")]:
        text = path.read_text()
        for piece in text.split("DataLoader(")[1:]:
            call = piece[: piece.find("\n        )") + 1 or 400]
            if "num_workers" in call:
                assert "worker_init_fn=init_worker" in call or "num_workers=0" in call, path
        if '"num_workers"' in text:
            assert '"worker_init_fn": init_worker' in text, path


def test_nothing_starts_processes_in_another_way() -> None:
    """What ends with its parent is made by `octavius.processes`, or says so to it."""
    for path in [*(ROOT / "octavius").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")]:
        text = path.read_text()
        if path != Path(processes.__file__):
            assert "ProcessPoolExecutor(" not in text, path
            assert "multiprocessing.Process(" not in text, path
            assert "Popen(" not in text or "PARENT" in text, path
