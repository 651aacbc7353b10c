"""Features are mapped one by one to the language model's width."""

import pytest
import torch

from octavius.encoders.projector import LinearProjector


@pytest.mark.parametrize("normalise", [False, True])
def test_every_vector_is_mapped_alone(normalise: bool) -> None:
    projector = LinearProjector(5, 7, normalise)
    features = torch.randn(2, 3, 5) * 4 + 1
    projected = projector(features)
    assert projected.shape == (2, 3, 7)
    for medium in range(2):
        for index in range(3):
            vector = features[medium, index]
            if normalise:
                vector = (vector - vector.mean()) / (vector.var(unbiased=False) + 1e-5).sqrt()
            expected = projector.linear.weight @ vector + projector.linear.bias
            torch.testing.assert_close(projected[medium, index], expected)


def test_normalised_features_have_one_scale() -> None:
    projector, features = LinearProjector(5, 7, normalise=True), torch.randn(1, 3, 5)
    torch.testing.assert_close(projector(features * 1000 + 7), projector(features), rtol=1e-3, atol=1e-3)
    assert (LinearProjector(5, 7)(features * 1000) - LinearProjector(5, 7)(features)).abs().max() > 1


def test_only_the_linear_map_learns() -> None:
    assert {name for name, _ in LinearProjector(5, 7, normalise=True).named_parameters()} == {
        "linear.weight",
        "linear.bias",
    }


def test_features_of_another_type_are_cast() -> None:
    assert LinearProjector(5, 7)(torch.randn(1, 2, 5, dtype=torch.bfloat16)).dtype == torch.float32
