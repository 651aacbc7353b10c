"""Pooling of a question into one vector for the gates: the mean of its word embeddings."""

from torch import Tensor
from torch.nn import functional as F


def pooled(embeddings: Tensor, mask: Tensor, width: int) -> Tensor:
    """Averages the embeddings of the real question tokens and scales the mean to an RMS of 1, in fp32.

    Args:
        embeddings: word embeddings of the questions, (B, Q, D).
        mask: true (or 1) at real question tokens, (B, Q).
        width: expected size D.

    Returns:
        (B, D).

    Raises:
        ValueError: shapes do not match, or a question has no real token.
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
    # Not a product with the mask, in which NaN or inf at padding would become NaN.
    kept = embeddings.float().masked_fill(~real.unsqueeze(-1), 0.0)
    return F.rms_norm(kept.sum(dim=1) / counts, (width,))
