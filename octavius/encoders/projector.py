"""Linear projection from encoder features to the language model's embedding space."""

from torch import Tensor, nn


class LinearProjector(nn.Module):
    """The paper's single linear layer, after an optional LayerNorm without parameters."""

    def __init__(self, width_in: int, width_out: int, normalise: bool = False) -> None:
        """Creates the layer.

        Args:
            width_in: width of the encoder's features.
            width_out: hidden size of the language model.
            normalise: normalize each feature vector to mean 0 and variance 1 first; the paper does not.
        """
        super().__init__()
        self.norm = nn.LayerNorm(width_in, elementwise_affine=False) if normalise else nn.Identity()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (M, N, width_in) to (M, N, width_out)."""
        projected: Tensor = self.linear(self.norm(features.to(self.linear.weight.dtype)))
        return projected
