"""Damaged, changed or foreign checkpoints are read correctly, or refused with one message."""

import errno
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octavius.checkpoint_format.content import FORMAT_KEY
from octavius.cli.main import main
from tests.tiny import options, refused, settings, write_models

TEST = ["test", "--ckpt", "last.ckpt"]
ASK = ["predict", "--question", "What is it?"]


@pytest.fixture(scope="module")
def trained(miniature_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its configuration; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    models = write_models(tmp_path_factory.mktemp("models"))
    (folder / "small.yaml").write_text(yaml.safe_dump(settings(models, miniature_root)))
    place = options(checkpoint__dirpath=folder / "kept", data__init_args__validate="[]")
    main(["fit", "--config", str(folder / "small.yaml"), *place])
    return folder / "kept"


@pytest.fixture
def last(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`checkpoints/last.ckpt` in the current folder, to be changed."""
    shutil.copytree(trained, tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return Path("checkpoints/last.ckpt")


def resave(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Saves a checkpoint again after a change, as an earlier version would: without a checksum."""
    content = torch.load(path, weights_only=True)
    del content[FORMAT_KEY]
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("words", "advice"), [(TEST, "or name one with --config"), (ASK, "copy it too")], ids=["test", "predict"]
)
def test_an_earlier_checkpoint_without_its_configuration_is_refused(
    last: Path, words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    resave(last, lambda content: content.pop("configuration"))
    last.with_suffix(".yaml").unlink()
    text = refused(words, capsys)
    assert "no configuration next to" in text
    assert "last.yaml" in text
    assert advice in text


def test_a_checkpoint_alone_is_enough(last: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last.with_suffix(".yaml").unlink()
    main(TEST)
    main(ASK)
    assert "cider" in capsys.readouterr().out


def loops(content: dict[str, Any], *names: str, value: Any) -> None:
    place = content["loops"]["fit_loop"]
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value


def swap(content: dict[str, Any]) -> None:
    """Exchanges two tensors of one shape."""
    state = content["state_dict"]
    names = [name for name in state if name.endswith("lora_A")]
    state[names[0]], state[names[1]] = state[names[1]], state[names[0]]


def cost(**changed: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["callbacks"]["Cost"].update(changed)


def optimizer(content: dict[str, Any]) -> dict[str, Any]:
    return content["optimizer_states"][0]


def schedule(**changed: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["lr_schedulers"][0].update(changed)


def position(value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.update(ImageInstructions=value)


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "half precision": (
        lambda c: c.update(state_dict={name: part.half() for name, part in c["state_dict"].items()}),
        "expected torch.float32: it was converted",
    ),
    "no optimizer": (
        lambda c: c.pop("optimizer_states"),
        "optimizer_states is missing; it was saved with its",
    ),
    "no schedule": (lambda c: c.pop("lr_schedulers"), "lr_schedulers is missing"),
    "no optimizer after steps": (
        lambda c: c.update(optimizer_states=[]),
        "optimizer_states is empty after 2 steps",
    ),
    "no loops after steps": (lambda c: c.pop("loops"), "loops is empty after 2 steps"),
    "no version": (lambda c: c.pop("pytorch-lightning_version"), "pytorch-lightning_version is missing"),
    "two optimizers": (lambda c: c["optimizer_states"].append(optimizer(c)), "optimizer_states"),
    "two groups": (
        lambda c: optimizer(c)["param_groups"].append({"params": []}),
        "different number of parameter groups",
    ),
    "fewer parameters": (lambda c: optimizer(c)["param_groups"][0]["params"].pop(), "which is in no group"),
    "an average of another shape": (
        lambda c: optimizer(c)["state"][3].update(exp_avg=torch.ones(2, 2)),
        "the shape (2, 2)",
    ),
    "a rate in words": (
        lambda c: optimizer(c)["param_groups"][0].update(lr="high"),
        "param_groups.lr: expected a number",
    ),
    "one beta": (lambda c: optimizer(c)["param_groups"][0].update(betas=[0.9]), "betas: expected 2 values"),
    "steps below zero": (
        lambda c: optimizer(c)["state"][0].update(step=torch.tensor(-3.0)),
        "has made -3 steps",
    ),
    "an empty schedule": (lambda c: c.update(lr_schedulers=[{}]), "'lr_lambdas'"),
    "two schedules": (lambda c: c.update(lr_schedulers=2 * c["lr_schedulers"]), "lr_schedulers"),
    "a schedule in words": (schedule(last_epoch="two"), "lr_schedulers.last_epoch: expected a whole number"),
    "a schedule elsewhere": (
        schedule(last_epoch=2000),
        "the schedule is at step 2000, the training at step 2",
    ),
    "another step": (
        lambda c: c.update(global_step=7),
        "its loops have counted 2 steps, but global_step is 7",
    ),
    "a loop in words": (
        lambda c: loops(c, "epoch_progress", "current", "ready", value="one"),
        "loops.fit_loop.epoch_progress.current.ready: expected a whole number",
    ),
    "a loop below zero": (
        lambda c: loops(c, "epoch_loop.batch_progress", "total", "processed", value=-4),
        "epoch_loop.batch_progress.total.processed: expected a whole number",
    ),
    "a part of the loops": (
        lambda c: c["loops"]["fit_loop"].pop("epoch_progress"),
        "'epoch_progress' is missing",
    ),
    "one loop": (lambda c: c["loops"].pop("test_loop"), "'test_loop' is missing"),
    "a cost in words": (cost(seconds="long"), "callbacks.Cost.seconds: expected a number"),
    "half a cost": (
        lambda c: c["callbacks"]["Cost"].pop("gpu"),
        "callbacks.Cost cannot take its state back (KeyError",
    ),
    "a position below zero": (
        position({"epoch": 0, "batch": -1}),
        "expected non-negative integers 'epoch' and 'batch'",
    ),
    "half a position": (position({"epoch": 1}), "expected non-negative integers 'epoch' and 'batch'"),
    "a position in words": (position("early"), "ImageInstructions cannot take its place in the data back"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNFIT)
def test_a_fit_goes_on_from_what_fits_it_alone(
    last: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = UNFIT[name]
    resave(last, change)
    before = last.read_bytes()
    text = refused(
        ["fit", "--ckpt", "last.ckpt", *options(trainer__max_epochs=2, checkpoint__dirpath="new")], capsys
    )
    assert said in text
    assert "last.ckpt" in text
    assert last.read_bytes() == before


READERS = {
    "fit": ["fit", "--ckpt", "last.ckpt"],
    "validate": ["validate", "--ckpt", "last.ckpt"],
    "test": TEST,
    "benchmarks": [*TEST, "--benchmarks", "miniature"],
    "predict": ASK,
    "export": ["export", "--out", "exported", "--format", "hf", "--question", "What is it?"],
    "plan": ["plan", "--ckpt", "last.ckpt"],
}


@pytest.mark.parametrize("reader", READERS)
def test_every_command_refuses_a_flipped_bit(
    last: Path, reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, rng = last.read_bytes(), random.Random(reader)
    for place in (len(whole) - 5, *(rng.randrange(len(whole)) for _ in range(3))):
        content = bytearray(whole)
        content[place] ^= 1 << rng.randrange(8)
        last.write_bytes(content)
        text = refused(READERS[reader], capsys)
        assert "last.ckpt" in text
        assert "cannot be read as a checkpoint" in text
    assert not Path("exported").exists()


@pytest.mark.parametrize("reader", READERS)
def test_every_command_refuses_a_checkpoint_that_was_changed_and_saved_again(
    last: Path, reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(last, weights_only=True)
    swap(content)
    torch.save(content, last)
    assert "it was saved again by another program" in refused(READERS[reader], capsys)


CALLED: list[object] = []


def called(*args: object, **_: object) -> None:
    """What a checkpoint must not reach."""
    CALLED.append(args)


def harmful(content: dict[str, Any]) -> None:
    """What `load_from_checkpoint` of Lightning before 2.6.6 imports and calls, in plain values (CVE-2026-58659)."""
    own = {"_instantiator": f"{__name__}.called", "_class_path": "antigravity.Module"}
    content |= {"hyper_parameters": own, "hparams_type": f"{__name__}.called", "hparams_name": "decoder"}
    content |= {
        "datamodule_hyper_parameters": own,
        "datamodule_hparams_name": "root",
        "module_arguments": own,
    }


@pytest.mark.parametrize(
    "reader",
    [
        "fit",
        "predict",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("validate", "test", "export")),
    ],
)
def test_nothing_that_a_checkpoint_names_is_imported_or_called(
    last: Path, reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    resave(last, harmful)
    main(READERS[reader])
    capsys.readouterr()
    assert not CALLED
    assert "antigravity" not in sys.modules


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may be larger, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def targets() -> dict[str, tuple[list[str], str]]:
    logger = {"trainer.logger": "CSVLogger", "trainer.logger.init_args.save_dir": "file/logs"}
    return {
        "checkpoints below a file": (
            ["--checkpoint.dirpath", "file/checkpoints"],
            "is a file, expected a folder, so that nothing",
        ),
        "checkpoints far away": (
            ["--checkpoint.dirpath", "memory://a"],
            "is memory://a, expected a folder",
        ),
        "a folder for a checkpoint": (
            ["--checkpoint.dirpath", "checkpoints", "--checkpoint.filename", "taken"],
            "Is a directory, where a file is to be",
        ),
        "logs below a file": (
            [word for key, value in logger.items() for word in (f"--{key}", value)],
            "file/logs",
        ),
    }


@pytest.mark.parametrize("name", targets())
def test_what_cannot_be_written_is_found_before_training(
    last: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    Path("checkpoints/taken.ckpt").mkdir()
    words, said = targets()[name]
    before = last.read_bytes()
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: pytest.fail("the training began"))
    assert said in refused(["fit", "--ckpt", "last.ckpt", *options(trainer__max_epochs=2), *words], capsys)
    assert last.read_bytes() == before


def test_a_disk_that_is_too_full_is_found_before_training(
    last: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: pytest.fail("the training began"))
    with small_disk(last.stat().st_size // 2):
        text = refused(["fit", "--ckpt", "last.ckpt", *options(trainer__max_epochs=2)], capsys)
    assert "MB are needed and" in text
    assert "/kept" in text


@pytest.mark.usefixtures("last")
def test_an_error_while_saving_at_the_end_is_told_with_what_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("checkpoints/last.ckpt")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("octavius.checkpoint.saving.seal", full)
    words = [
        "fit",
        "--ckpt",
        "last.ckpt",
        *options(trainer__max_epochs=2, checkpoint__dirpath=path.parent.absolute()),
    ]
    text = refused(words, capsys)
    assert "No space left on device, while writing" in text
    assert "the checkpoint of step 4 is lost, the one from before still stands" in text
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.ckpt", "last.yaml"]
