"""Precomputed features pass unchanged; noise and dropping are for training alone."""

import numpy as np
import pytest
import torch

from octavius.encoders.precomputed import PrecomputedFeatures
from octavius.instruction.sample import Media


def test_features_pass_as_they_are() -> None:
    encoder = PrecomputedFeatures(4, 3, noise=1.0, drop=0.5).eval()
    features = torch.randn(2, 4, 3)
    assert torch.equal(encoder(features), features)
    assert torch.equal(PrecomputedFeatures(4, 3).train()(features), features)
    assert (encoder.num_tokens, encoder.width) == (4, 3)
    assert not list(encoder.parameters())


def test_noise_has_its_standard_deviation() -> None:
    encoder = PrecomputedFeatures(100, 100, noise=0.25).train()
    features = torch.randn(2, 100, 100)
    noise = encoder(features) - features
    assert float(noise.std()) == pytest.approx(0.25, rel=0.05)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert not torch.equal(encoder(features), encoder(features))


def test_whole_vectors_are_dropped() -> None:
    encoder = PrecomputedFeatures(400, 6, drop=0.3).train()
    features = torch.randn(5, 400, 6) + 10
    found = encoder(features)
    gone = (found == 0).all(dim=2)
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(found[~gone], features[~gone])
    assert len({tuple(row) for row in gone.tolist()}) == 5  # drawn for each medium


def test_the_loader_takes_arrays_of_this_shape_alone() -> None:
    loader = PrecomputedFeatures(4, 3).loader()
    array = np.arange(12.0).reshape(4, 3)
    assert loader(Media(array=array)).tolist() == array.tolist()
    with pytest.raises(ValueError, match=r"expected an array of shape \(4, 3\), found one of shape \(3, 4\)"):
        loader(Media(array=array.T))
