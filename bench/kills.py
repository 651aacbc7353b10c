"""Kills short trainings at random moments, resumes them, and compares every loss with an uninterrupted run.

    python bench/kills.py --moments 40 --out runs/kills -- --config 2d.yaml --data.init_args.samples_per_epoch 160

Arguments after `--` go to `octavius fit`. The training first runs once to its end. Then it is started again for each
moment and sent SIGINT, SIGTERM, SIGHUP or SIGKILL in turn, to the process alone or to its whole group (as Ctrl-C in a
terminal and schedulers do), at a random moment between start and end; some get the signal again two seconds later.
Measured are the exit status, the seconds until the process ended, and the processes of the run that were left then
and five seconds later. The run is then resumed from its checkpoint, or started over if there was none yet; every loss
that both runs logged, the trained tensors, and the evaluation scores are compared bit for bit. The table is also
written to `<out>/kills.md`.

Most of a short run is spent on imports. With --warm libraries are imported once and each run is a fork of that
process; moments then lie after the imports, and worker processes of a run still import by themselves.
"""

import argparse
import atexit
import csv
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

WARM = False
"""Whether runs are forks of this process (`--warm`)."""

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
MARK = "OCTAVIUS_KILLS"
"""Environment variable that identifies the processes of a run in any process group."""

LOGGED = ("train/", "val/", "lr")
"""Prefixes of the logged values to compare: losses, scores and the learning rate."""

PATIENCE = 90.0
"""Seconds after which a run that was sent a signal counts as hanging."""


@dataclass
class Kill:
    """One killed run.

    Attributes:
        number: number of the run.
        name: name of the signal.
        group: whether it is sent to the whole process group.
        twice: whether it is sent again.
        moment: seconds from the start to the signal.
        status: exit status; None if the run hung.
        seconds: seconds from the signal to the end.
        left: processes left at the end, and five seconds later.
        kept: step of the last checkpoint; None if there was none.
        compared: number of logged values that were compared.
        faults: differences and failures found, for the table.
    """

    number: int
    name: str
    group: bool
    twice: bool
    moment: float
    status: int | None = None
    seconds: float = 0.0
    left: tuple[int, int] = (0, 0)
    kept: int | None = None
    compared: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def expected(self) -> bool:
        """Whether the exit status is right; 0 is, since the run may have ended before the signal."""
        return self.status in ((-9, 0) if self.name == "SIGKILL" else (130, 0))

    def row(self) -> list[str]:
        """Its row of the table."""
        whom = ("group" if self.group else "process") + (", twice" if self.twice else "")
        kept = "none" if self.kept is None else str(self.kept)
        said = f"{self.compared} equal" if not self.faults else "; ".join(self.faults)
        status = f"{self.status}" + ("" if self.expected else " (wrong)")
        times = [f"{self.moment:.1f}", status, f"{self.seconds:.1f}", f"{self.left[0]} / {self.left[1]}"]
        return [str(self.number), self.name, whom, *times, kept, said]


def main() -> None:
    """Runs everything and prints the table."""
    own, words = split(sys.argv[1:])
    out: Path = own.out
    out.mkdir(parents=True, exist_ok=True)
    if own.warm:
        global WARM
        WARM = True
        importlib.import_module("octavius.cli.main")
    begin = time.monotonic()
    began = run_to_the_end(out / "whole", words, "whole")
    whole = time.monotonic() - begin
    print(f"uninterrupted: {whole:.0f} s, first step after about {began:.0f} s", flush=True)
    chance = random.Random(own.seed)
    kills = [
        Kill(
            number,
            SIGNALS[number % 4],
            number // 4 % 2 == 1,
            number % 4 < 3 and number // 8 % 4 == 3,
            whole * (number + chance.random()) / own.moments,
        )
        for number in range(own.moments)
    ]
    chance.shuffle(times := [kill.moment for kill in kills])
    for kill, moment in zip(kills, times, strict=True):
        kill.moment = moment
    with ThreadPoolExecutor(own.jobs) as pool:
        for kill in pool.map(lambda one: carry_out(one, out, words), kills):
            print("| " + " | ".join(kill.row()) + " |", flush=True)
    report(kills, out / "kills.md", words, whole)


def split(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits the arguments at `--` into own options and those of `octavius fit`."""
    parser = argparse.ArgumentParser(description="Kills trainings at random moments and resumes them.")
    parser.add_argument("--moments", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", action="store_true", help="import libraries once for all runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    place = list(words).index("--") if "--" in words else len(words)
    return parser.parse_args(list(words)[:place]), list(words)[place + 1 :]


def start(folder: Path, words: Sequence[str], logs: str, mark: str) -> "subprocess.Popen[bytes] | Fork":
    """Starts `octavius fit` in its own process group, with its output in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "checkpoint.dirpath": folder,
        "trainer.logger": "CSVLogger",
        "trainer.logger.init_args.save_dir": folder,
        "trainer.logger.init_args.name": logs,
        "trainer.logger.init_args.flush_logs_every_n_steps": 1,
        "trainer.log_every_n_steps": 1,
        "trainer.enable_progress_bar": "false",
    }
    more = [word for key, value in own.items() for word in (f"--{key}", str(value))]
    with (folder / f"{logs}.txt").open("wb") as said:
        if WARM:
            return Fork(["fit", *words, *more], said.fileno(), mark)
        return subprocess.Popen(
            [sys.executable, "-m", "octavius", "fit", *words, *more],
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {MARK: mark},
            start_new_session=True,
            preexec_fn=listen,
        )


def listen() -> None:
    """Restores default handlers; children inherit that a shell ignores SIGINT in the background, or nohup SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Fork:
    """A run in a fork of this process, with the part of the `Popen` interface that is used here."""

    def __init__(self, words: list[str], said: int, mark: str) -> None:
        """Forks; the child runs the command and never returns from here."""
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        os.setsid()
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ[MARK] = mark
        listen()
        # Lightning starts the processes of further ranks from these, as under `python -m octavius`.
        entry = importlib.import_module("octavius.__main__")
        sys.argv = [str(entry.__file__), *words]
        sys.modules["__main__"] = entry
        try:
            entry.main()
        finally:  # the fork must not return into its parent's code
            with suppress(BaseException):
                atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(0)  # an error exits with its own status before this line

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if process else None
        return self.returncode

    def wait(self, limit: float) -> int:
        """Waits for the exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after `limit` seconds.
        """
        end = time.monotonic() + limit
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("octavius", limit)
            time.sleep(0.02)
        assert self.returncode is not None
        return self.returncode


def run_to_the_end(folder: Path, words: Sequence[str], logs: str) -> float:
    """Trains to the end; returns the seconds until the first loss was logged.

    Raises:
        RuntimeError: the training failed.
    """
    run, begin, first = start(folder, words, logs, f"{folder}/{logs}"), time.monotonic(), 0.0
    while run.poll() is None:
        if not first and losses(folder / logs):
            first = time.monotonic() - begin
        time.sleep(0.2)
    if run.returncode:
        raise RuntimeError(f"{folder / logs}.txt: octavius fit ended with status {run.returncode}")
    return first


def carry_out(kill: Kill, out: Path, words: Sequence[str]) -> Kill:
    """Starts, kills, resumes and compares one run."""
    folder = out / f"{kill.number:02d}-{kill.name}"
    mark = str(folder)
    run = start(folder, words, "cut", mark)
    time.sleep(kill.moment)
    send, number = os.killpg if kill.group else os.kill, getattr(signal, kill.name)
    begin = time.monotonic()
    if run.poll() is None:
        send(run.pid, number)
        if kill.twice:
            time.sleep(2.0)
            if run.poll() is None:
                send(run.pid, number)
    try:
        kill.status = run.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        kill.faults.append(f"still there after {PATIENCE:.0f} s")
    kill.seconds = time.monotonic() - begin
    at_once = len(marked(mark))
    time.sleep(5.0)
    kill.left = at_once, len(marked(mark))
    for process in marked(mark):
        os.kill(process, signal.SIGKILL)
    checkpoint = folder / "last.ckpt"
    more: list[str] = []
    if checkpoint.is_file():
        kill.kept = torch.load(checkpoint, weights_only=True, map_location="cpu")["global_step"]
        more = ["--ckpt", str(checkpoint)]
    try:
        run_to_the_end(folder, [*words, *more], "rest")
        compare(kill, out / "whole", folder)
    except (RuntimeError, OSError, ValueError) as error:
        kill.faults.append(str(error))
    return kill


def marked(mark: str) -> list[int]:
    """Ids of the living processes of a run, without zombies."""
    found, wanted = [], f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                dead = ") Z" in (folder / "stat").read_text()
                if not dead and wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def losses(folder: Path) -> dict[tuple[str, str], str]:
    """Logged values of a run as text, by step and name, without times and speeds."""
    found: dict[tuple[str, str], str] = {}
    for file in sorted(folder.glob("version_*/metrics.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                step = row.get("step") or ""
                kept = {key: value for key, value in row.items() if value and key.startswith(LOGGED)}
                found |= {(step, key): value for key, value in kept.items()}
    return found


def compare(kill: Kill, whole: Path, folder: Path) -> None:
    """Compares both parts of a killed run with the uninterrupted one, and adds differences to `kill.faults`."""
    expected, cut, rest = losses(whole / "whole"), losses(folder / "cut"), losses(folder / "rest")
    for part, name in ((cut, "cut"), (rest, "resumed")):
        wrong = [key for key, value in part.items() if expected.get(key) != value]
        if wrong:
            kill.faults.append(f"{name}: {len(wrong)} of {len(part)} differ, first {wrong[0]}")
    kill.compared = len(cut) + len(rest)
    # For a task without samples in a step, Lightning logs its last loss again if there was one; a resumed run may
    # have none yet.
    wanted = {key for key in expected if not key[1].startswith("train/loss/")}
    if missing := wanted - set(cut) - set(rest):
        kill.faults.append(f"{len(missing)} never logged, first {min(missing)}")
    one, other = (
        torch.load(place / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"]
        for place in (whole, folder)
    )
    if unequal := [name for name in one if not torch.equal(one[name], other[name])]:
        kill.faults.append(f"{len(unequal)} trained tensors differ at the end")


def report(kills: Sequence[Kill], file: Path, words: Sequence[str], whole: float) -> None:
    """Prints and writes the table and a summary."""
    head = ["", "signal", "to", "at / s", "status", "ended in / s", "left at once / after 5 s"]
    head += ["checkpoint of step", "losses and scores"]
    lines = [
        "| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *(kill.row() for kill in kills))
    ]
    equal = sum(not kill.faults for kill in kills)
    slowest = max(kill.seconds for kill in kills)
    at_once, later = (sum(kill.left[place] for kill in kills) for place in (0, 1))
    right = sum(kill.expected for kill in kills)
    lines += [
        "",
        f"`octavius fit {' '.join(words)}` takes {whole:.0f} s. Of {len(kills)} killed runs {equal} were bit-equal "
        f"after they were resumed; {right} had the right exit status; the slowest ended in {slowest:.1f} s; "
        f"{at_once} processes were left at once, {later} after five seconds.",
    ]
    text = "\n".join(lines) + "\n"
    file.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
