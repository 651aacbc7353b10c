"""A save that is killed, or runs out of space, at any instant leaves the old checkpoint or the new one."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.demos.boring_classes import BoringModel

from octavius.checkpoint.saving import Checkpoint, CheckpointFiles
from octavius.checkpoint_format.configuration import configuration_of
from octavius.checkpoint_format.weights import read_checkpoint
from octavius.files import remove_partials

CALLS = ("replace", "fsync", "unlink", "chmod", "open", "close", "mkdir", "rename")
"""Functions of `os` through which a save changes anything but the content of its own partial file."""


def save(path: Path, value: int) -> None:
    checkpoint = {
        "state_dict": {"a": torch.full((3000,), float(value))},
        "epoch": value,
        "global_step": value,
    }
    CheckpointFiles(f"lr: {value}\n").save_checkpoint(checkpoint, path)


def held(path: Path) -> int:
    """The value that a checkpoint was saved with, the same in all of its parts."""
    checkpoint = read_checkpoint(path)
    configuration = configuration_of(path, checkpoint)
    assert configuration is not None
    assert checkpoint["state_dict"]["a"].unique().tolist() == [checkpoint["epoch"]]
    assert yaml.safe_load(configuration.text) == {"lr": checkpoint["epoch"]}
    return int(checkpoint["epoch"])


def interrupted(path: Path, count: int, happens: Callable[[], None]) -> bool:
    """Saves in another process, in which something happens before the call of that number; whether it came so far."""
    child = os.fork()
    if not child:
        left = [count]

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    happens()
                return call(*args, **options)

            return wrapped

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            save(path, 2)
        except OSError as error:
            os._exit(0 if error.errno == errno.ENOSPC else 5)
        except BaseException:
            os._exit(6)
        os._exit(7)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL, 7 << 8), f"the save ended with {status}"
    return status != 7 << 8


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
@pytest.mark.parametrize("happens", [kill, fill])
def test_at_every_instant_both_are_old_or_both_are_new(tmp_path: Path, happens: Callable[[], None]) -> None:
    path, seen = tmp_path / "last.ckpt", []
    for count in range(100):
        save(path, 1)
        going = interrupted(path, count, happens)
        seen.append(held(path))
        remove_partials(tmp_path)
        assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "last.yaml"}
        if not going:
            break
    assert seen == sorted(seen)
    assert seen[-1] == 2
    assert seen.count(1) > 3
    assert seen.count(2) > 2


def test_the_first_save_is_whole_or_absent(tmp_path: Path) -> None:
    for count in range(100):
        path = tmp_path / str(count) / "last.ckpt"
        going = interrupted(path, count, kill)
        assert not path.exists() or held(path) == 2
        if not going:
            break
    assert count > 5


@pytest.mark.parametrize("limit", [0, 1, 5000, 12000, 13000])
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    import resource

    path = tmp_path / "last.ckpt"
    save(path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(
            OSError,
            match=r"File too large, .* step 2 is lost, the one from before still stands: '.*last\.ckpt'",
        ):
            save(path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert held(path) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "last.yaml"}


def test_the_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    save(tmp_path / "last.ckpt", 1)
    assert held(tmp_path / "last.ckpt") == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_another_file_system_stays(tmp_path: Path, there: bool) -> None:
    target = Path(f"/dev/shm/octavius-{uuid4().hex}.ckpt")
    path = tmp_path / "last.ckpt"
    path.symlink_to(target)
    try:
        for value in (1, 2) if there else (2,):
            save(path, value)
        assert path.is_symlink()
        assert held(path) == held(target.rename(target.with_suffix(".moved.ckpt")).rename(target)) == 2
    finally:
        target.unlink(missing_ok=True)


def test_a_target_that_is_no_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "circle.ckpt").symlink_to("circle.ckpt")
    (tmp_path / "device.ckpt").symlink_to("/dev/null")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    for name, said in (
        ("folder.ckpt", "Is a directory"),
        ("circle.ckpt", "symbolic links"),
        ("device.ckpt", "a device"),
        ("file/last.ckpt", "file is a file, expected a folder"),
    ):
        with pytest.raises(OSError, match=said):
            save(tmp_path / name, 1)
        assert sorted(tmp_path.rglob("*")) == before


def test_the_last_steps_are_saved_too(tmp_path: Path) -> None:
    saving = Checkpoint(
        dirpath=tmp_path, filename="last", every_n_train_steps=4, enable_version_counter=False
    )
    trainer = L.Trainer(
        max_steps=6,
        limit_val_batches=0,
        callbacks=[saving],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BoringModel())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 6
