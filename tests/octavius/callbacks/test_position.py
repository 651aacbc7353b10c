"""A training that stops anywhere resumes exactly: losses, learning rates, scores and weights are equal bit for bit.

Always with dropout, a gate with jitter, and accumulated gradients.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.octavius.interrupted_runs import PLACES, Halt, Notes, Stopper, halt, same, train

Trained = tuple[Notes, dict[str, torch.Tensor]]

VARIANTS: dict[str, dict[str, Any]] = {
    "accumulated": {},
    "every step": {"accumulate_grad_batches": 1},
    "a rest at the end of the epoch": {"accumulate_grad_batches": 4, "evaluate": False},
    "evaluated within epochs": {"val_check_interval": 2, "accumulate_grad_batches": 1},
    "evaluated within a step": {"val_check_interval": 3},
    "a number of steps": {"max_steps": 5, "max_epochs": -1},
    "a number of steps, not evaluated": {"max_steps": 5, "max_epochs": -1, "evaluate": False},
    "part of an epoch": {"limit_train_batches": 4},
    "saved after each step": {"checkpoint": {"every_n_train_steps": 1}},
    "saved all the time": {"checkpoint": {"train_time_interval": timedelta(0)}},
    "saved within epochs": {"checkpoint": {"every_n_minutes": 1e-9}},
    "packed": {"batching": "packed"},
    "grouped": {"batching": "grouped"},
    "two data workers": {"workers": 2},
    "token gate": {"lora": {"gate": "token"}},
}


@pytest.fixture(scope="module")
def whole(decoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """The uninterrupted run of a variant, made once."""
    made: dict[str, Trained] = {}

    def run(variant: str) -> Trained:
        if variant not in made:
            made[variant] = train(tmp_path_factory.mktemp("whole"), decoder_folder, **options(variant))
        return made[variant]

    return run


def options(variant: str) -> dict[str, Any]:
    return VARIANTS[variant]


def check_resumed(
    folder: Path,
    decoder: Path,
    whole: Trained,
    variant: str,
    place: str,
    visit: int,
    kind: type[BaseException],
) -> None:
    """Stops a run there, goes on, and compares both parts with the whole run."""
    expected, weights = whole
    cut, _ = train(folder, decoder, Stopper(place, visit, lambda: halt(kind)), **options(variant))
    rest, found = train(folder, decoder, resume=True, **options(variant))
    assert not same(cut, expected)
    assert not same(rest, expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    missing = set(expected.losses) - set(cut.losses) - set(rest.losses)
    # An error of a callback at the end of a step comes before Lightning logs its loss.
    assert len(missing) <= (place == "on_train_batch_end")
    assert set(cut.scores) | set(rest.scores) == set(expected.scores)


@pytest.mark.parametrize(
    ("place", "visit"),
    [
        ("forward", 5),  # the second half of the third step
        pytest.param("within the optimizer", 3, marks=pytest.mark.slow),
        pytest.param("on_validation_batch_end", 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    whole: Callable[[str], Trained], decoder_folder: Path, tmp_path: Path, place: str, visit: int
) -> None:
    kind = KeyboardInterrupt if visit % 2 else Halt
    check_resumed(tmp_path, decoder_folder, whole("accumulated"), "accumulated", place, visit, kind)


@pytest.mark.slow
@pytest.mark.parametrize("visit", [1, 4])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_wherever_it_was_stopped_and_however_it_trains(
    whole: Callable[[str], Trained],
    decoder_folder: Path,
    tmp_path: Path,
    variant: str,
    place: str,
    visit: int,
) -> None:
    if not options(variant).get("evaluate", True) and "validation" in place:
        pytest.skip("this one is not evaluated")
    kind = KeyboardInterrupt if visit % 2 else Halt
    check_resumed(tmp_path, decoder_folder, whole(variant), variant, place, visit, kind)


def saved(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return found


def test_what_was_accumulated_is_done_again(decoder_folder: Path, tmp_path: Path) -> None:
    """Stopped in the second batch of the third step: the checkpoint is of the second step, four batches."""
    train(tmp_path, decoder_folder, Stopper("forward", 5, halt), evaluate=False)
    kept = saved(tmp_path)
    assert kept["global_step"] == 2
    assert kept["Pieces"] == {"epoch": 0, "batch": 4}
    assert kept["lr_schedulers"][0]["last_epoch"] == 2
    assert {float(state["step"]) for state in kept["optimizer_states"][0]["state"].values()} == {2.0}


def test_a_killed_run_has_the_checkpoint_within_its_epoch(
    whole: Callable[[str], Trained], decoder_folder: Path, tmp_path: Path
) -> None:
    """Nothing is saved on the way out: what is there was saved within the epoch, after a complete step."""
    often = {"every_n_minutes": 1e-9, "save_on_exception": False}
    train(tmp_path, decoder_folder, Stopper("forward", 5, halt), checkpoint=often)
    assert saved(tmp_path)["global_step"] == 2
    rest, found = train(tmp_path, decoder_folder, resume=True)
    expected, weights = whole("accumulated")
    assert not same(rest, expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_nothing_is_saved_within_an_epoch_that_is_short(decoder_folder: Path, tmp_path: Path) -> None:
    for minutes in (10.0, None):
        often = {"every_n_minutes": minutes, "save_on_exception": False}
        train(tmp_path, decoder_folder, Stopper("forward", 5, halt), checkpoint=often)
        assert not (tmp_path / "last.ckpt").exists()
    with pytest.raises(ValueError, match=r"checkpoint\.every_n_minutes must be above 0 or null, found 0"):
        train(tmp_path, decoder_folder, checkpoint={"every_n_minutes": 0})


def test_a_step_that_is_half_done_is_not_saved(decoder_folder: Path, tmp_path: Path) -> None:
    train(tmp_path, decoder_folder, Stopper("within the optimizer", 1, halt), evaluate=False)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["on_train_start", "on_train_batch_start"])
def test_a_second_stop_before_the_first_resumed_step_is_harmless(
    whole: Callable[[str], Trained], decoder_folder: Path, tmp_path: Path, place: str
) -> None:
    expected, weights = whole("accumulated")
    train(tmp_path, decoder_folder, Stopper("forward", 3, halt))
    first = saved(tmp_path)
    train(tmp_path, decoder_folder, Stopper(place, 0, halt), resume=True)
    again = saved(tmp_path)
    assert (first["loops"], first["Pieces"]) == (again["loops"], again["Pieces"])
    rest, found = train(tmp_path, decoder_folder, resume=True)
    assert not same(rest, expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("place", ["on_fit_start", "on_train_start"])
def test_before_training_begins_the_checkpoint_is_left_alone(
    decoder_folder: Path, tmp_path: Path, place: str
) -> None:
    """What was put in place of it may be half of it."""
    train(tmp_path, decoder_folder, Stopper("forward", 3, halt), evaluate=False)
    before = (tmp_path / "last.ckpt").read_bytes()
    train(tmp_path, decoder_folder, Stopper(place, 0, halt), resume=True, evaluate=False)
    assert (tmp_path / "last.ckpt").read_bytes() == before
