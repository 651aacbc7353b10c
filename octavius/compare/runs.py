"""Words of `octavius compare` come in; ordinary `fit` and `test` runs are made, those that are done are kept."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavius.compare.table import Result, write_tables
from octavius.presets import find_config
from octavius.weights import read_checkpoint

PLAN, RECORD, SCORES = "plan.json", "run.json", "metrics_test.json"


@dataclass(frozen=True)
class Run:
    """One arm with one seed, in a folder of its own.

    Attributes:
        arm: its name: that of the configuration laid over the others, without `.yaml`.
        seed: of weights, dropout, data order and mixture; equal seeds see equal data in all arms.
        folder: where its checkpoint, logs and scores go.
        words: what `octavius fit` is given.
    """

    arm: str
    seed: int
    folder: Path
    words: tuple[str, ...]

    @property
    def checkpoint(self) -> Path:
        """What `fit` leaves."""
        return self.folder / "last.ckpt"


def compare(words: Sequence[str]) -> None:
    """Runs what is not done yet, one run after another, and writes the tables of all that is.

    Raises:
        ValueError: arms without a name of their own, another comparison in the folder, a run that failed.
    """
    options, passed_on = parser().parse_known_args(list(words))
    out = Path(options.out)
    arms = name_arms(options.config, options.arms)
    baseline = options.baseline or Path(options.arms[0]).stem
    if baseline not in arms:
        raise ValueError(f"there is no arm {baseline!r} to be the baseline; arms are {', '.join(arms)}")
    runs = plan(options.config, arms, options.seeds, out, passed_on)
    if options.print_commands:
        for run in runs:
            print(shlex.join(["octavius", "fit", *run.words]))
            print(shlex.join(["octavius", "test", *test_words(run)]))
        return
    claim(out, {"config": options.config, "options": passed_on})
    for place, run in enumerate(runs, 1):
        print(f"[{place} of {len(runs)}] {run.arm}, seed {run.seed}: ", end="", flush=True)
        print(carry_out(run), flush=True)
    print("\n" + write_tables([result(run) for run in runs], baseline, out))


def parser() -> argparse.ArgumentParser:
    """The options of the command; any other is an option of every fit."""
    made = argparse.ArgumentParser(
        prog="octavius compare",
        description="Train the same set-up in several variants with several seeds, test each, and write one "
        "table with mean, spread and paired differences. Runs that are done are not repeated.",
        epilog="Options that are not named above go to every fit, for instance --trainer.max_steps 1000.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    made.add_argument("--config", action="append", required=True, help="as of fit; itself the first arm")
    made.add_argument("--arms", nargs="+", required=True, help="configurations to lay over it, one an arm")
    made.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, .. of every arm (default: 3)")
    made.add_argument(
        "--baseline", help="arm that the others are compared with (default: the first of --arms)"
    )
    made.add_argument(
        "--out", default="runs/compare", help="folder of runs and tables (default: runs/compare)"
    )
    made.add_argument(
        "--print_commands", action="store_true", help="print each run's commands for a scheduler, run nothing"
    )
    return made


def name_arms(configs: Sequence[str], overlays: Sequence[str]) -> dict[str, list[str]]:
    """Names to what is laid over the configuration; the first arm is the configuration itself."""
    arms: dict[str, list[str]] = {Path(configs[-1]).stem: []}
    for overlay in overlays:
        find_config(overlay)
        name = Path(overlay).stem
        if name in arms:
            raise ValueError(f"two arms would be called {name!r}; rename one of the configuration files")
        arms[name] = [overlay]
    return arms


def plan(
    configs: Sequence[str], arms: dict[str, list[str]], seeds: int, out: Path, options: Sequence[str]
) -> list[Run]:
    """All runs, seed after seed, so that a comparison that is stopped early is whole for its first seeds."""
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: a comparison needs at least one seed, and two to have a spread")
    runs = []
    for seed in range(seeds):
        for arm, overlay in arms.items():
            folder = out / arm / f"seed{seed}"
            own = {
                "seed_everything": seed,
                "data.init_args.seed": seed,
                "checkpoint.dirpath": folder,
                "trainer.logger": "TensorBoardLogger",
                "trainer.logger.init_args.save_dir": folder,
                "trainer.logger.init_args.name": "logs",
            }
            words = [word for config in (*configs, *overlay) for word in ("--config", config)]
            words += [word for key, value in own.items() for word in (f"--{key}", str(value))]
            runs.append(Run(arm, seed, folder, (*words, *options)))
    return runs


def test_words(run: Run) -> list[str]:
    """What `octavius test` is given."""
    return ["--ckpt", str(run.checkpoint), "--trainer.logger.init_args.name", "test"]


def claim(out: Path, facts: dict[str, Any]) -> None:
    """Writes what is compared into the folder; arms and seeds may be added later, anything else may not.

    Raises:
        ValueError: the folder holds runs of another set-up.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / PLAN
    if file.is_file() and (before := json.loads(file.read_text())) != facts:
        raise ValueError(
            f"{out} holds a comparison of {shlex.join(_words(before))}, not of {shlex.join(_words(facts))}; "
            "name another folder with --out"
        )
    file.write_text(json.dumps(facts))


def _words(facts: dict[str, Any]) -> list[str]:
    return [*facts["config"], *facts["options"]]


def carry_out(run: Run) -> str:
    """Trains and tests one run as far as it is not done; gives a line to print."""
    run.folder.mkdir(parents=True, exist_ok=True)
    record = recorded(run)
    if not record["trained"]:
        going_on = ["--ckpt", str(run.checkpoint)] if run.checkpoint.is_file() else []
        try:
            memory = octavius("fit", [*run.words, *going_on], run.folder / "fit.log", record)
        finally:
            (run.folder / RECORD).write_text(json.dumps(record))
        record |= {"trained": True, "memory": max(memory, record["memory"])}
        (run.folder / RECORD).write_text(json.dumps(record))
    elif scores(run) is not None:
        return "done before"
    octavius("test", test_words(run), run.folder / "test.log", {"seconds": 0.0})
    assert scores(run) is not None, "octavius test writes its scores beside its logs"
    return f"trained in {record['seconds'] / 60:.1f} min, at most {record['memory']:.2f} GiB"


def octavius(command: str, words: Iterable[str], log: Path, record: dict[str, Any]) -> float:
    """Runs one command with its output in a file; adds its seconds to the record, gives its peak memory in GiB.

    Raises:
        ValueError: it failed; the message ends with its last words.
    """
    start = time.monotonic()
    with log.open("a") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "octavius", command, *words], stdout=file, stderr=subprocess.STDOUT
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except KeyboardInterrupt:
            child.wait()  # it got the same Ctrl-C, and saves
            raise
        finally:
            record["seconds"] += time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise ValueError(
            f"octavius {command} failed; the whole output is in {log}, its last line is: "
            f"{said[-1] if said else ''}"
        )
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return usage.ru_maxrss / unit


def recorded(run: Run) -> dict[str, Any]:
    """What is known of a run's training so far."""
    file = run.folder / RECORD
    fresh = {"trained": False, "seconds": 0.0, "memory": 0.0}
    return fresh | (json.loads(file.read_text()) if file.is_file() else {})


def scores(run: Run) -> dict[str, dict[str, float]] | None:
    """The scores of a run's last test; None before it. A set is named with its protocol, if not the standard one."""
    files = sorted(run.folder.glob(f"test/**/{SCORES}"), key=lambda file: file.stat().st_mtime)
    if not files:
        return None
    found = {}
    for name, row in json.loads(files[-1].read_text()).items():
        protocol = row.pop("protocol", "standard")
        found[name if protocol == "standard" else f"{protocol}: {name}"] = row
    return found


def result(run: Run) -> Result:
    """What the tables need of a run that is done."""
    found, record = scores(run), recorded(run)
    assert found is not None
    trained = sum(tensor.numel() for tensor in read_checkpoint(run.checkpoint)["state_dict"].values())
    return Result(run.arm, run.seed, found, trained, record["seconds"], record["memory"])
