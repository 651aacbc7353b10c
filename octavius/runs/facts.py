"""`run.json` of a log folder: command, versions, machine, start, end and outcome of a run.

PyTorch is not imported: `octavius runs` reads these files within a fraction of a second.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import octavius
from octavius.files import write_text

FILE, CONFIG = "run.json", "config.yaml"
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
"""Values of `status`. A killed run stays at `running`; `status_of` recognises it by its missing process."""


def start(stage: str, argv: Sequence[str], seed: int | None, processes: int) -> dict[str, Any]:
    """The facts that are known when a run starts.

    Args:
        stage: fit, validate or test.
        argv: the arguments of the command line, without the program's name.
        seed: the seed of the run.
        processes: number of processes that train together.
    """
    return {
        "status": RUNNING,
        "stage": stage,
        "command": shlex.join(["octavius", *argv]),
        "folder": str(Path.cwd()),
        "started": now(),
        "seed": seed,
        "processes": processes,
        "git": git_state(Path.cwd()),
        "octavius": {"version": octavius.__version__, "git": git_state(Path(octavius.__file__).parent)},
        "packages": versions(),
        "host": {
            "name": platform.node(),
            "pid": os.getpid(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
    }


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Replaces the facts of a log folder."""
    write_text(folder / FILE, json.dumps(facts, indent=1) + "\n")


def status_of(facts: dict[str, Any]) -> str:
    """The status of a run: `killed` if its process, on this machine, is gone without having written an end."""
    status, host = str(facts.get("status", "unknown")), facts.get("host", {})
    if status != RUNNING or host.get("name") != platform.node():
        return status
    try:
        os.kill(int(host["pid"]), 0)
    except ProcessLookupError:
        return "killed"
    except (PermissionError, KeyError, TypeError, ValueError, OverflowError):
        pass
    return status


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Octavius' installed dependencies; empty if Octavius itself is not installed as a package."""
    from importlib import metadata  # slow, and only runs are recorded with it

    found: dict[str, str] = {}
    try:
        needed = metadata.requires("octavius") or []
    except metadata.PackageNotFoundError:
        return found
    for line in needed:
        name = line.partition(";")[0].strip()
        for end in "<>=!~[ ":
            name = name.partition(end)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # of an extra
            continue
    return dict(sorted(found.items()))


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository that a folder is in, and whether tracked files differ from it; None without one."""
    git = shutil.which("git")
    if git is None:
        return None
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            asked = subprocess.run(
                [git, "-C", str(folder), *question],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (subprocess.SubprocessError, OSError, ValueError):
            return None
        answers.append(asked.stdout.strip())
    return {"commit": answers[0], "changed": bool(answers[1])}
