"""The question as gates read it: the mean of its word embeddings."""

from torch import Tensor
from torch.nn import functional as F


def pooled(embeddings: Tensor, mask: Tensor, width: int) -> Tensor:
    """The mean embedding of the real question tokens, brought to a root mean square of 1, in fp32.

    Args:
        embeddings: word embeddings of the questions, (B, Q, D).
        mask: true (or 1) at real question tokens, (B, Q).
        width: the size D that is expected.

    Returns:
        (B, D).

    Raises:
        ValueError: shapes are others, or a question has no token.
    """
    if embeddings.dim() != 3 or embeddings.shape[-1] != width or mask.shape != embeddings.shape[:2]:
        raise ValueError(
            f"the gate expects question embeddings (samples, tokens, {width}) and a mask (samples, "
            f"tokens), found {tuple(embeddings.shape)} and {tuple(mask.shape)}; embed the question "
            "with the language model that the gate was made for"
        )
    real = mask.bool()
    counts = real.sum(dim=1, keepdim=True)
    if not bool((counts > 0).all()):
        empty = (counts.squeeze(1) == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"the gate reads the question, but these samples of the batch have no real question token: "
            f"{empty}; give each a question that is not empty, and check its question mask"
        )
    kept = embeddings.float().masked_fill(~real.unsqueeze(-1), 0.0)
    return F.rms_norm(kept.sum(dim=1) / counts, (width,))
