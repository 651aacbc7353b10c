"""Encoder features come in, vectors of the language model's width go out."""

from torch import Tensor, nn


class LinearProjector(nn.Module):
    """The paper's single linear layer, after an optional parameter-free LayerNorm of each feature."""

    def __init__(self, width_in: int, width_out: int, normalise: bool = False) -> None:
        """Makes the layer.

        Args:
            width_in: of the encoder.
            width_out: of the language model.
            normalise: bring each feature vector to mean 0 and variance 1 first; the paper does not.
        """
        super().__init__()
        self.norm = nn.LayerNorm(width_in, elementwise_affine=False) if normalise else nn.Identity()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, features: Tensor) -> Tensor:
        """Features (M, N, width_in) to (M, N, width_out)."""
        projected: Tensor = self.linear(self.norm(features.to(self.linear.weight.dtype)))
        return projected
