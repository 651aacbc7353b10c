"""What is recorded about a run when it starts."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from octavius.runs.facts import git_state, start, status_of, versions, write


def git(folder: Path, *argv: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *argv], cwd=folder, check=True, capture_output=True)


def test_commit_and_changes_of_a_repository(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-m", "one")
    found = git_state(tmp_path)
    assert found is not None
    assert len(found["commit"]) == 40
    assert not found["changed"]
    (tmp_path / "other.txt").write_text("not tracked")
    assert git_state(tmp_path) == found
    (tmp_path / "a.txt").write_text("two")
    assert git_state(tmp_path) == {**found, "changed": True}


def test_a_folder_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_the_command_can_be_pasted_and_versions_are_those_installed(tmp_path: Path) -> None:
    found = start("fit", ["fit", "--question", "what is 'this'?"], 3, 2)
    assert found["command"] == """octavius fit --question 'what is '"'"'this'"'"'?'"""
    assert (found["seed"], found["processes"], found["status"]) == (3, 2, "running")
    assert found["packages"] == versions()
    assert {"torch", "lightning", "transformers"} <= set(versions())
    write(tmp_path, found)
    assert json.loads((tmp_path / "run.json").read_text()) == found


def test_a_run_whose_process_is_gone_was_killed() -> None:
    found = start("fit", [], None, 1)
    assert status_of(found) == "running"
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert status_of({**found, "host": {**found["host"], "pid": child}}) == "killed"
    assert status_of({**found, "host": {"name": "elsewhere", "pid": child}}) == "running"
    assert status_of({**found, "status": "finished"}) == "finished"
    assert status_of({}) == "unknown"
