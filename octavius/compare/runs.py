"""Runs a comparison as ordinary `fit` and `test` commands; finished runs are not repeated."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from octavius.compare.figure import draw, draw_curves
from octavius.compare.plan import Comparison, read_plan
from octavius.compare.record import Run, cost, result, scores
from octavius.compare.table import write_tables
from octavius.configuration.text import read_config
from octavius.configuration.trust import TRUST
from octavius.files import check_writable, read_json, write_text
from octavius.presets import find_config
from octavius.processes import PARENT

PLAN = "plan.json"

OWN = (
    "seed_everything",
    "data.init_args.seed",
    "data.seed",
    "checkpoint.dirpath",
    "checkpoint.filename",
    "trainer.logger",
    "ckpt",
)
"""Options of `fit`, or the beginnings of their names, that a comparison sets for each run."""

_RUNNING: set[subprocess.Popen[bytes]] = set()
"""Running commands of all threads."""


def compare(argv: Sequence[str]) -> None:
    """Runs what is not finished, and writes the tables and the figure of all runs.

    Args:
        argv: arguments of the command.

    Raises:
        ValueError: names of arms clash, the folder holds another comparison, or a run failed.
    """
    asked = read_plan(argv)
    runs = plan(asked)
    if asked.print_commands:
        for run in runs:
            fit, test = ["octavius", "fit", *run.arguments], ["octavius", "test", *test_arguments(run)]
            print(shlex.join(fit), "&&", shlex.join(test))
        return
    claim(asked)
    for count, (run, said) in enumerate(carry_out_all(runs, asked.jobs), 1):
        print(f"[{count} of {len(runs)}] {run.arm}, seed {run.seed}: {said}", flush=True)
    results, path = [result(run) for run in runs], asked.out / asked.name
    print("\n" + write_tables(results, asked.columns, asked.differences, path))
    draw(results, asked.columns, path.with_name(f"{path.name}.png"))
    if asked.curves:
        draw_curves(results, asked.curves, path.with_name(f"{path.name}_curves.png"))
    print(f"\ntables and picture: {path}.md, .csv and .png" + (" (_curves.png)" if asked.curves else ""))


def plan(asked: Comparison) -> list[Run]:
    """All runs, seed by seed, so that an interrupted comparison is complete for its first seeds.

    Raises:
        ValueError: an option sets what the comparison sets for each run.
    """
    for option in asked.options:
        name = option.partition("=")[0].removeprefix("--")
        if option.startswith("--") and name.startswith(OWN):
            raise ValueError(
                f"--{name} cannot be an option of a comparison, which gives each run a seed, a folder and a logger "
                "of its own; set --seeds or --out"
            )
    runs = []
    for seed in range(asked.seeds):
        for arm, configs in asked.arms.items():
            folder = asked.out / arm / f"seed{seed}"
            run_options = {
                "seed_everything": seed,
                "data.init_args.seed": seed,
                "checkpoint.dirpath": folder,
                "trainer.logger": "TensorBoardLogger",
                "trainer.logger.init_args.save_dir": folder,
                "trainer.logger.init_args.name": "logs",
            }
            arguments = [argument for config in configs for argument in ("--config", config)]
            arguments += asked.options
            # Last, so that nothing in the options, such as another --config, overrides them.
            arguments += [
                argument for key, value in run_options.items() for argument in (f"--{key}", str(value))
            ]
            runs.append(Run(arm, seed, folder, tuple(arguments)))
    return runs


def test_arguments(run: Run) -> list[str]:
    """Arguments for `octavius test`."""
    trust = [argument for argument in run.arguments if argument == TRUST]
    return ["--ckpt", str(run.checkpoint), "--trainer.logger.init_args.name", "test", *trust]


def claim(asked: Comparison) -> None:
    """Writes the set-up to the folder, so that later calls with another set-up are refused there.

    Arms and seeds may be added later, but nothing else may change.

    Raises:
        ValueError: the folder holds runs of another set-up.
    """
    check_writable(asked.out)
    file = asked.out / PLAN
    arms = {
        name: {config: read_config(find_config(config)) for config in configs}
        for name, configs in asked.arms.items()
    }
    facts = json.loads(json.dumps({"arms": arms, "options": asked.options}, default=str))
    if file.is_file():
        before = read_json(file)
        if (
            not isinstance(before, dict)
            or not isinstance(before.get("arms"), dict)
            or "options" not in before
        ):
            raise ValueError(f"{file} is damaged: expected arms and options; name another folder with --out")
        changed = [
            name for name in arms if before["arms"].get(name, facts["arms"][name]) != facts["arms"][name]
        ]
        if before["options"] != facts["options"]:
            raise ValueError(
                f"{asked.out} holds a comparison with the options `{shlex.join(before['options'])}`, not "
                f"`{shlex.join(facts['options'])}`; name another folder with --out"
            )
        if changed:
            raise ValueError(
                f"{asked.out} holds runs of an arm {changed[0]!r} whose configuration was "
                f"{', '.join(before['arms'][changed[0]])}, with other content than now "
                f"({', '.join(arms[changed[0]])}); name another folder with --out"
            )
        facts["arms"] = before["arms"] | facts["arms"]
    write_text(file, json.dumps(facts, indent=1))


def carry_out_all(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, str]]:
    """Runs everything in order, up to `jobs` runs at a time; yields each run with a line to print.

    After a failure or a signal no run is started, and running ones get SIGTERM, on which they save a
    checkpoint.
    """
    stopped = Event()

    def carry_on(run: Run) -> str:
        try:
            return "" if stopped.is_set() else carry_out(run, jobs)
        except BaseException:
            stop()
            raise

    def stop() -> None:
        stopped.set()
        for running in list(_RUNNING):
            running.send_signal(signal.SIGTERM)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from zip(runs, pool.map(carry_on, runs), strict=True)
        except BaseException:
            stop()
            raise


def carry_out(run: Run, jobs: int = 1) -> str:
    """Trains and tests one run, or resumes it; returns a line to print."""
    run.folder.mkdir(parents=True, exist_ok=True)
    if cost(run) is None:
        resume = ["--ckpt", str(run.checkpoint)] if run.checkpoint.is_file() else []
        octavius("fit", [*run.arguments, *resume], run.folder / "fit.log", jobs)
    elif scores(run) is not None:
        return "done before"
    octavius("test", test_arguments(run), run.folder / "test.log", jobs)
    found = cost(run)
    assert found is not None, "octavius fit writes its cost beside its logs"
    assert scores(run) is not None, "octavius test writes its scores beside its logs"
    return f"trained in {found['seconds'] / 60:.1f} min, at most {found['memory_gib']:.2f} GiB"


def octavius(command: str, arguments: Iterable[str], log: Path, jobs: int = 1) -> None:
    """Runs one command with its output in a file; parallel commands share the cores.

    Raises:
        ValueError: it failed; the message contains the last line of its output.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    with (
        log.open("a") as file,
        subprocess.Popen(
            [sys.executable, "-m", "octavius", command, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=threads | os.environ | {PARENT: str(os.getpid())},
        ) as done,
    ):
        _RUNNING.add(done)
        try:
            done.wait()
        finally:
            _RUNNING.discard(done)
    if done.returncode < 0:
        raise ValueError(
            f"octavius {command} was killed by signal {-done.returncode} (9, SIGKILL, often means that memory "
            f"ran out); its output is in {log}"
        )
    if done.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise ValueError(
            f"octavius {command} failed; the whole output is in {log}, its last line is: "
            f"{said[-1].removeprefix('octavius: error: ') if said else ''}"
        )
