"""The pooled question: the mean of the real tokens alone, with an RMS of 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.lora_moe.gates.question import pooled


@given(seed=st.integers(0, 999), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_it_is_the_scaled_mean_of_the_real_tokens(seed: int, lengths: list[int]) -> None:
    torch.manual_seed(seed)
    embeddings = torch.randn(len(lengths), 5, 6)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    embeddings[~mask] = torch.nan  # padding must not be read
    found = pooled(embeddings, mask, 6)
    for row, length in enumerate(lengths):
        mean = embeddings[row, :length].sum(0) / length
        torch.testing.assert_close(found[row], mean / mean.square().mean().sqrt(), rtol=1e-4, atol=1e-5)


def test_a_question_without_tokens_and_other_shapes_are_refused() -> None:
    embeddings, mask = torch.ones(2, 3, 4), torch.tensor([[1, 1, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"no real question token: \[1\]"):
        pooled(embeddings, mask, 4)
    with pytest.raises(ValueError, match=r"expects question embeddings \(samples, tokens, 5\)"):
        pooled(embeddings, mask, 5)
    with pytest.raises(ValueError, match=r"found \(2, 3, 4\) and \(2, 2\)"):
        pooled(embeddings, mask[:, :2], 4)
