"""Clusters are fitted once to the questions of training."""

from collections.abc import Callable

import pytest
import torch

from octavius.gate_fitting import fit_gate
from octavius.instruction.sample import Sample
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.model import Octavius

MakeModel = Callable[..., Octavius]


MakeSample = Callable[..., Sample]


TURNS = [
    ("Is it red?", "no", ["image"]),
    ("What do you hear in the dark, and how many of them are there?", "two big cats", ["sound"]),
    ("Say something.", "a very long answer that goes on and on", []),
]


def test_clusters_are_fitted_once_to_the_questions_of_training(
    make_model: MakeModel, make_sample: MakeSample
) -> None:
    samples = [make_sample(f"s{n}", question=asked) for n, (asked, *_) in enumerate(TURNS * 2)]
    found = []
    for order in (samples, samples, samples[::-1]):
        model = make_model(gate="cluster", clusters=3)
        fit_gate(model.gate, model.decoder, [order], at_once=2)
        gate = model.gate
        assert isinstance(gate, ClusterGate)
        found.append(gate.get_buffer("centroids").clone())
        fit_gate(gate, model.decoder, [samples[:1]])  # fitted already
        assert torch.equal(gate.get_buffer("centroids"), found[-1])
        ids = torch.tensor([model.decoder.tokenizer.encode(f" {TURNS[1][0]}")])
        mean = model.decoder.embed(ids).mean(1)
        mean = mean / mean.square().mean().sqrt()
        assert torch.cdist(mean, found[-1]).min() < 1e-3  # as many clusters as questions: it is its own
    assert torch.equal(found[0], found[1])
    model = make_model(gate="cluster", clusters=3)
    with pytest.raises(ValueError, match="3 clusters cannot be fitted to 1 different questions"):
        fit_gate(model.gate, model.decoder, [samples[:1]])
