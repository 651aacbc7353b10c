"""Word embeddings of the questions come in, one weight for each expert and sample goes out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceGate(nn.Module):
    """G(z^qu) of the paper's equation (3): scores the experts once for each instance, from its question.

    The embeddings of the real question tokens are averaged and brought to a root mean square of 1, a linear
    map without bias gives one logit per expert, and the softmax over the experts is cut to its `top_k` largest
    entries and renormalised. All of it in fp32, whatever autocast or the type of the parameters says.

    The scaling is not in the paper. Word embeddings are small (a standard deviation of 0.02 is usual), so that
    without it all logits of a fresh gate are nearly equal and the same experts win for every question.

    With `top_k` 1 every weight is 1, so that a gate over several experts gets no gradient from the answer.

    Args:
        width: size D of a word embedding.
        experts: number E of experts.
        top_k: how many experts an instance uses, 1..E.
    """

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"a gate needs at least 1 expert, found experts = {experts}; 1 is plain LoRA")
        if top_k < 1:
            raise ValueError(f"a gate keeps at least 1 expert, found top_k = {top_k}; choose 1 to {experts}")
        if top_k > experts:
            raise ValueError(
                f"an instance cannot use more experts than there are: top_k = {top_k}, experts = {experts}; "
                f"lower top_k to {experts} or raise experts"
            )
        self.width, self.experts, self.top_k = width, experts, top_k
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws small weights: logits start with a standard deviation of 1."""
        nn.init.normal_(self.weight, std=self.width**-0.5)

    def forward(self, question_embeddings: Tensor, question_mask: Tensor) -> Tensor:
        """The weights of the experts: `top_k` of them positive, the others 0, each row summing to 1.

        Args:
            question_embeddings: word embeddings of the questions, (B, Q, D).
            question_mask: true (or 1) at real question tokens, (B, Q).

        Returns:
            Weights in fp32, (B, E).
        """
        logits = self._logits(question_embeddings, question_mask)
        kept = logits.topk(self.top_k, dim=-1)
        # A softmax over the kept logits alone is the full softmax, cut and renormalised.
        return torch.zeros_like(logits).scatter(-1, kept.indices, kept.values.softmax(dim=-1))

    def probabilities(self, question_embeddings: Tensor, question_mask: Tensor) -> Tensor:
        """The full softmax over the experts, before the cut to `top_k`, in fp32, (B, E); for analysis.

        Args:
            question_embeddings: word embeddings of the questions, (B, Q, D).
            question_mask: true (or 1) at real question tokens, (B, Q).
        """
        return self._logits(question_embeddings, question_mask).softmax(dim=-1)

    def extra_repr(self) -> str:
        """The settings, for printing the model."""
        return f"width={self.width}, experts={self.experts}, top_k={self.top_k}"

    def _logits(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """One logit per sample and expert in fp32, (B, E), of embeddings (B, Q, D) and mask (B, Q)."""
        if embeddings.dim() != 3 or embeddings.shape[-1] != self.width or mask.shape != embeddings.shape[:2]:
            raise ValueError(
                f"the gate expects question embeddings (samples, tokens, {self.width}) and a mask (samples, "
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
        with torch.autocast(embeddings.device.type, enabled=False):
            kept = embeddings.float().masked_fill(~real.unsqueeze(-1), 0.0)
            mean = F.rms_norm(kept.sum(dim=1) / counts, (self.width,))
            return F.linear(mean, self.weight.float())
