"""Files that belong together are all old, all new, or refused."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octavius.files import remove_partials
from octavius.folders import LIST, check_folder, check_listed, saving_folder


def save(folder: Path, value: str, *more: str, new: bool = False) -> None:
    with saving_folder(folder, new) as partial:
        for name in ("config.json", "weights.bin", *more):
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(value)


def held(folder: Path) -> str | None:
    """What a folder was saved with; None if it is refused."""
    try:
        check_folder(folder)
    except ValueError:
        return None
    (value,) = {file.read_text() for file in folder.iterdir() if file.name != LIST}
    return value


def killed(call: Callable[[], None], count: int) -> bool:
    """Calls in another process, which is killed before it moves the file of that number; whether it came so far."""
    child = os.fork()
    if not child:
        replace, left = os.replace, [count]

        def counted(*args: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*args)

        os.replace = counted
        call()
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_folder_is_saved_over_another(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    for value in ("old", "new"):
        save(folder, value)
        assert held(folder) == value
        assert sorted(os.listdir(folder)) == ["config.json", LIST, "weights.bin"]
    assert os.listdir(folder.parent) == ["model"]


def test_what_an_earlier_save_left_goes_and_what_is_anothers_stays(tmp_path: Path) -> None:
    save(tmp_path, "old", "model-00001-of-00002.safetensors", "tokenizer.json")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "pytorch_model.bin").write_text("older still")
    save(tmp_path, "new", "model.safetensors")
    assert sorted(os.listdir(tmp_path)) == [
        "config.json",
        "model.safetensors",
        "notes.txt",
        LIST,
        "weights.bin",
    ]
    (tmp_path / "pytorch_model.bin").write_text("mine")
    save(tmp_path, "newer")
    assert (tmp_path / "pytorch_model.bin").exists()


def test_after_a_kill_a_folder_is_old_or_new_or_refused(tmp_path: Path) -> None:
    seen: list[str | None] = []
    for count in range(20):
        folder = tmp_path / str(count)
        save(folder, "old")
        going = killed(lambda folder=folder: save(folder, "new"), count)  # type: ignore[misc]
        remove_partials(folder)
        seen.append(held(folder))
        if not going:
            break
    assert seen == [
        "old",
        "old",
        None,
        None,
        "new",
    ]  # the list of the partial folder is the first to be moved
    save(folder, "newer")
    assert held(folder) == "newer"


def test_a_new_folder_is_whole_or_absent(tmp_path: Path) -> None:
    for count in range(2):
        assert killed(lambda: save(tmp_path / "model", "new"), count)
        assert not (tmp_path / "model").exists()
    assert not killed(lambda: save(tmp_path / "model", "new"), 2)
    assert held(tmp_path / "model") == "new"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with saving_folder(folder) as partial:
            (partial / "config.json").write_text("new")
            raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    save(tmp_path / "model", "old")
    for name in ("model", "absent"):
        with pytest.raises(OSError, match=rf"No space left on device, while writing: .*{name}"):
            fail(tmp_path / name)
    assert held(tmp_path / "model") == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_new_folder_takes_the_place_of_an_empty_one_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", "new", "expert0/weights.bin", new=True)
    check_folder(tmp_path / "empty")
    assert (tmp_path / "empty" / "expert0" / "weights.bin").exists()
    with pytest.raises(OSError, match="not empty"):
        save(tmp_path / "empty", "newer", new=True)


@pytest.mark.parametrize("name", ["config.json", "weights.bin"])
def test_a_changed_or_missing_file_is_told(tmp_path: Path, name: str) -> None:
    save(tmp_path, "value")
    check_listed(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    content[2] ^= 1
    (tmp_path / name).write_bytes(content)
    for check in (lambda: check_folder(tmp_path), lambda: check_listed(tmp_path / name)):
        with pytest.raises(ValueError, match=rf"{name} is not the file that was saved with the others"):
            check()
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} cannot be read .*, but {LIST} beside it names it"):
        check_folder(tmp_path)
    (tmp_path / LIST).unlink()
    check_folder(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 5}', "[" * 100_000])
def test_a_damaged_list_is_told_and_saved_over(tmp_path: Path, content: str) -> None:
    save(tmp_path, "old")
    (tmp_path / LIST).write_text(content)
    with pytest.raises(ValueError, match=rf"{LIST} is damaged"):
        check_folder(tmp_path)
    save(tmp_path, "new")
    assert held(tmp_path) == "new"
