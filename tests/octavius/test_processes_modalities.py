"""Pictures and rooms on one process and on two, DDP and FSDP2: a modality may be absent on one rank, or on all."""

from typing import Any

import pytest
import torch

from tests.octavius import modalities, tiny_runs
from tests.octavius.test_processes import KINDS, Runs, close, finish, same_training, start_two

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All runs; the two processes work while this one does its own share."""
    folder = tmp_path_factory.mktemp("runs")
    decoder = tiny_runs.write_decoder(folder / "decoder", tied=True)
    processes = start_two(folder, modalities.__file__)
    try:
        model = modalities.make(decoder)
        one = {"one": tiny_runs.fit(folder, "one", model, "auto", 1, pieces=modalities.mixture)[2]}
    finally:
        finish(processes, folder)
    ranks = [torch.load(folder / f"notes-{rank}.pt", weights_only=True) for rank in range(2)]
    return Runs(folder, one, ranks)


def without_key_biases(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A bias of keys moves all scores of a query alike, which softmax forgets.

    Its gradient is zero but for rounding, and Adam takes whole steps in the direction of the rounding.
    """
    state = checkpoint["state_dict"]
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(".key.bias")}
    assert len(state) - len(kept) == 2 * modalities.READER.layers
    return {**checkpoint, "state_dict": kept}


def test_one_process_learns_from_both(runs: Runs) -> None:
    """What the others are compared with: each projector has gradients, each task its loss."""
    notes = runs.one["one"]
    assert len(notes["logged"]) == 8
    assert {key for step in notes["logged"] for key in step if key.startswith("train/loss/")} == {
        f"train/loss/{task}" for task in ("classification", "captioning", "classification3d", "captioning3d")
    }
    for projector in ("image", "cloud"):
        own = [name for name in notes["norms"][0] if f"projectors.{projector}." in name]
        assert own
        assert all(any(step[name] > 0 for step in notes["norms"]) for name in own)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_see_different_modalities(runs: Runs, kind: str) -> None:
    first, second = (notes[kind]["modalities"] for notes in runs.ranks)
    pairs = {tuple(map(tuple, pair)) for pair in zip(first, second, strict=True)}
    seen = {frozenset(pair) for pair in pairs}
    assert frozenset([("image",), ("cloud",)]) in seen, "each rank lacks what the other has"
    assert any(("cloud", "image") in pair and len(pair) == 2 for pair in seen), "one rank lacks a modality"
    assert any(() in pair for pair in seen), "one rank has texts alone"
    together = {name for pair in pairs for name in ("image", "cloud") if not any(name in one for one in pair)}
    assert together, "a modality is absent on both"


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one_with_the_doubled_batch(runs: Runs, kind: str) -> None:
    for notes in runs.ranks:
        close(notes[kind]["logged"], runs.one["one"]["logged"])
        close(notes[kind]["norms"], runs.one["one"]["norms"])
    assert runs.ranks[0][kind]["logged"] == runs.ranks[1][kind]["logged"]
    same_training(*(without_key_biases(runs.checkpoint(name)) for name in (kind, "one")))


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_scores_are_those_of_one_process(runs: Runs, kind: str) -> None:
    """Six samples in batches of two: while one rank looks at a picture, the other is in a room."""
    expected = runs.one["one"]["metrics"]
    assert {name.split("/")[1] for name in expected} == {"pictures", "rooms"}
    for notes in runs.ranks:
        assert notes[kind]["metrics"] == pytest.approx(expected, rel=1e-6, abs=0, nan_ok=True)
    found, one = runs.predictions(kind), runs.predictions("one")
    assert [line["id"] for line in one] == ["a0", "a1", "a2", "c1", "c2", "c3"]
    assert [line["prediction"] for line in found] == [line["prediction"] for line in one]


def test_a_projector_that_nothing_passes_through_stays_as_it_is(runs: Runs) -> None:
    """Steps without rooms: the reader of rooms takes part in each backward pass, and gets no gradient from it."""
    model = modalities.make(runs.folder / "decoder")
    batch = next(iter(modalities.mixture(model.processor, 4).val_dataloader()))
    assert set(batch.media) == {"image"}
    embedded = model.model.train().embed(batch)
    reader = list(model.model.projectors["cloud"].parameters())
    gradients = torch.autograd.grad(embedded.sum(), reader)
    assert all(not gradient.any() for gradient in gradients)
