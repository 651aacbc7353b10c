"""The same run on one process and on two, by DDP and FSDP2: losses, training, scores and resumption are equal."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from octavius.checkpoint_format.weights import read_checkpoint
from octavius.decoder.decoder import Decoder
from tests.octavius import tiny_runs

ROOT = Path(tiny_runs.__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # the gradients of two processes are in lora_moe/test_two_processes.py as well

KINDS = ("ddp", "fsdp")
LIMIT = 500
"""Seconds after which two processes count as hanging."""


@dataclass(frozen=True)
class Runs:
    """What all runs left: notes by name, of one process and of each of two, and the folder of their files."""

    folder: Path
    one: dict[str, dict[str, Any]]
    ranks: list[dict[str, dict[str, Any]]]

    def checkpoint(self, name: str) -> dict[str, Any]:
        return read_checkpoint(self.folder / f"{name}.ckpt")

    def predictions(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / name / "log" / "predictions_val.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def start_two(folder: Path, script: str = tiny_runs.__file__) -> list[subprocess.Popen[str]]:
    """Two processes of a script such as `tiny_runs.py` that find each other; what they print goes into files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
    }
    processes = []
    for rank in "01":
        command = [sys.executable, script, str(folder), rank]
        with (folder / f"said-{rank}.txt").open("w") as said:
            environment = {**shared, "RANK": rank, "LOCAL_RANK": rank}
            processes.append(
                subprocess.Popen(command, env=environment, stdout=said, stderr=said, text=True, cwd=folder)
            )
    return processes


def finish(processes: list[subprocess.Popen[str]], folder: Path) -> None:
    """Waits for all; when one fails or they hang, ends the others and shows what they said."""
    end = time.monotonic() + LIMIT
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        if any(process.poll() for process in processes):
            break
        time.sleep(0.05)
    codes = [process.poll() for process in processes]
    for process in processes:
        process.kill()
        process.wait()
    said = "\n".join((folder / f"said-{rank}.txt").read_text()[-3000:] for rank in range(len(processes)))
    assert codes == [0, 0], f"exit codes {codes} (None: still running)\n{said}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All runs; the two processes are started once and work while this one does its own share."""
    folder = tmp_path_factory.mktemp("runs")
    tied, untied = (tiny_runs.write_decoder(folder / name, name == "tied") for name in ("tied", "untied"))
    one = {"one": tiny_runs.fit(folder, "one", tiny_runs.make(tied), "auto", 1)[2]}
    processes = start_two(folder)
    try:
        for name, options in tiny_runs.VARIANTS.items():
            model = tiny_runs.make(untied if name.startswith("untied") else tied, **options)
            options = {"evaluate": False, "pieces": tiny_runs.pieces_of(name)}
            one[name] = tiny_runs.fit(folder, f"one-{name}", model, "auto", 1, **options)[2]
    finally:
        finish(processes, folder)
    ranks = [torch.load(folder / f"notes-{rank}.pt", weights_only=True) for rank in range(2)]
    return Runs(folder, one, ranks)


def close(found: list[dict[str, float]], expected: list[dict[str, float]], tolerance: float = 1e-5) -> None:
    """The same steps with the same keys, metrics apart, and values that differ by rounding."""
    assert len(found) == len(expected) > 0
    for here, there in zip(found, expected, strict=True):
        keys = {key for key in there if not key.startswith("val/")}
        assert {key for key in here if not key.startswith("val/")} == keys
        assert [here[key] for key in keys] == pytest.approx([there[key] for key in keys], abs=tolerance)


def same_training(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = 1e-5) -> None:
    """Trained tensors, their names and the optimizer's state, laid out alike, differ by rounding."""
    assert found["frozen_fingerprint"] == expected["frozen_fingerprint"]
    assert found["lr_schedulers"] == expected["lr_schedulers"]
    assert list(found["state_dict"]) == list(expected["state_dict"])
    here, there = found["optimizer_states"][0], expected["optimizer_states"][0]
    assert here["param_groups"] == there["param_groups"]
    torch.testing.assert_close(here["state"], there["state"], rtol=0, atol=tolerance)
    for name, tensor in expected["state_dict"].items():
        gaps = (found["state_dict"][name].float() - tensor.float()).abs()
        # Adam divides by the size of the gradient: a number whose first gradients are rounding takes steps in a
        # direction that is rounding too. One in a hundred may, by a tenth of a step.
        assert (gaps > tolerance).float().mean() <= 0.01, name
        assert gaps.max() <= max(tolerance, 1e-3), name


def test_one_process_learns(runs: Runs) -> None:
    """What the others are compared with: losses that change, clipped gradients, answers that score."""
    notes = runs.one["one"]
    assert len({step["train/loss"] for step in notes["logged"]}) == 6
    totals = [sum(norm**2 for norm in step.values()) ** 0.5 for step in notes["norms"]]
    assert max(totals) == pytest.approx(tiny_runs.CLIP, rel=1e-4)
    assert sum(abs(total - tiny_runs.CLIP) < 1e-4 for total in totals) >= 3, "too few steps are clipped"
    assert notes["metrics"]["val/texts/cider"] > 0.5


@pytest.mark.parametrize("name", [*KINDS, *(f"{kind}-accumulated" for kind in KINDS)])
def test_two_processes_are_one_with_the_doubled_batch(runs: Runs, name: str) -> None:
    for notes in runs.ranks:
        close(notes[name]["logged"], runs.one["one"]["logged"])
        close(notes[name]["norms"], runs.one["one"]["norms"])
    same_training(runs.checkpoint(name), runs.checkpoint("one"))


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_may_lack_a_modality_and_a_task(runs: Runs, kind: str) -> None:
    """The runs above had such steps; what is logged is the same on both ranks all the same."""
    first, second = (notes[kind] for notes in runs.ranks)
    pairs = list(zip(first["modalities"], second["modalities"], strict=True))
    assert (["image"], []) in pairs
    assert (["image"], ["image"]) in pairs
    assert first["logged"] == second["logged"]


@pytest.mark.parametrize("name", tiny_runs.VARIANTS)
def test_variants_of_the_model_are_sharded(runs: Runs, name: str) -> None:
    # Of a decoder that is trained whole, Adam turns more rounding into steps.
    tolerance = 0.03 if name == "bfloat16" else 1e-4 if name.endswith("whole") else 1e-5
    for notes in runs.ranks:
        close(notes[name]["logged"], runs.one[name]["logged"], tolerance)
        close(notes[name]["norms"], runs.one[name]["norms"], tolerance)
    same_training(runs.checkpoint(name), runs.checkpoint(f"one-{name}"), tolerance)


def test_packed_texts_train_as_padded_ones(runs: Runs) -> None:
    close(runs.one["packed"]["logged"], runs.one["one"]["logged"])
    close(runs.one["packed"]["norms"], runs.one["one"]["norms"])


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_a_decoder_trained_in_shards_is_saved_whole(runs: Runs, name: str) -> None:
    prefix, state = "model.decoder.lm.", runs.checkpoint(f"{name}-whole")["state_dict"]
    saved = Decoder(str(runs.folder / f"saved-{name}-whole")).lm.state_dict()
    assert any(key.startswith(prefix) for key in state)
    for key, tensor in state.items():
        if key.startswith(prefix):
            assert torch.equal(saved[key.removeprefix(prefix)], tensor.half().float()), key


def test_every_rank_refuses_a_checkpoint_of_another_model(runs: Runs) -> None:
    for notes in runs.ranks:
        assert "this checkpoint is of another model" in notes["refused"]["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_one_process(runs: Runs, kind: str) -> None:
    """Nine samples on two ranks in batches of two: the ranks' last batches differ in task and length."""
    expected = runs.one["one"]["metrics"]
    assert {name.split("/")[1] for name in expected} == {"pictures", "lonely", "texts"}
    for notes in runs.ranks:
        assert notes[kind]["metrics"] == pytest.approx(expected, rel=1e-6, abs=0)
        assert notes[f"{kind}-again"]["metrics"] == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_complete_and_in_order(runs: Runs, kind: str) -> None:
    found, expected = runs.predictions(kind), runs.predictions("one")
    assert [line["id"] for line in expected] == ["a0", "a1", "a2", "a3", "a4", "l0", "b0", "b1", "b2"]
    for here, there in zip(found, expected, strict=True):
        assert here.pop("gate") == pytest.approx(there.pop("gate"), abs=1e-4)
        assert here == there


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_smaller_than_the_number_of_ranks(runs: Runs, kind: str) -> None:
    expected = {key: value for key, value in runs.one["one"]["metrics"].items() if "/lonely/" in key}
    for notes in runs.ranks:
        found = notes[f"{kind}-lonely"]["metrics"]
        assert found == pytest.approx(
            {key.replace("val/", "test/"): expected[key] for key in expected}, rel=1e-6, abs=0
        )


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_may_be_done_with_their_answers_at_different_times(runs: Runs, kind: str) -> None:
    model = tiny_runs.make(runs.folder / "tied")
    model.load_state_dict(runs.checkpoint(kind)["state_dict"], strict=False)
    for rank, notes in enumerate(runs.ranks):
        expected = tiny_runs.answers(model, rank)
        assert all(expected)
        assert notes[f"{kind}-answers"]["texts"] == [expected, expected]


@pytest.mark.parametrize("start", ["same", "one"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_go_on_from_a_checkpoint(runs: Runs, kind: str, start: str) -> None:
    """Of two processes, or of one, cut after the first of two epochs."""
    name = f"{kind}-after-{kind if start == 'same' else 'one'}"
    for notes in runs.ranks:
        close(notes[name]["logged"], runs.one["one"]["logged"][3:])
    same_training(runs.checkpoint(name), runs.checkpoint("one"))


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_from_a_checkpoint_of_two(runs: Runs, kind: str) -> None:
    cut = runs.folder / f"{kind}-cut.ckpt"
    assert runs.checkpoint(cut.stem)["epoch"] == 0
    name, model = f"one-after-{kind}", tiny_runs.make(runs.folder / "tied")
    trainer, data, notes = tiny_runs.fit(runs.folder, name, model, "auto", 1, resume=cut)
    close(notes["logged"], runs.one["one"]["logged"][3:])
    same_training(runs.checkpoint(name), runs.checkpoint("one"))
    trainer.validate(tiny_runs.make(runs.folder / "tied"), data, ckpt_path=runs.folder / f"{kind}.ckpt")
    assert tiny_runs.metrics(trainer) == pytest.approx(runs.one["one"]["metrics"], rel=1e-6, abs=0)
