"""What every encoder offers: media of one modality in, a fixed number of feature vectors out."""

from torch import Tensor, nn

from octavius.instruction.media import Loader


class Encoder(nn.Module):
    """Media (M, ...) in, features (M, N, width) out.

    Attributes:
        width: size of one feature vector.
        num_tokens: N, how many vectors a medium gives, and so how many slots it takes in the prompt.
    """

    width: int
    num_tokens: int

    def loader(self) -> Loader:
        """What turns one file or array into this encoder's input, in the data workers."""
        raise NotImplementedError

    def forward(self, media: Tensor) -> Tensor:
        """Features (M, N, width)."""
        raise NotImplementedError
