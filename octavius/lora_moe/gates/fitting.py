"""Fitting of gates to the training questions, once before training (cluster and source gates)."""

import random
from collections.abc import Sequence
from typing import cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from octavius.decoder.decoder import Decoder
from octavius.instruction.sample import Sample
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.question import pooled
from octavius.tasks import TASKS


@torch.no_grad()
def fit_gate(
    gate: Gate | None,
    decoder: Decoder,
    sources: Sequence[Sequence[Sample]],
    most: int = 20_000,
    at_once: int = 256,
) -> None:
    """Fits a gate that has `fitted_buffers` and is not fitted yet; does nothing for others.

    Every process computes the same fit, so nothing has to be broadcast.

    Args:
        gate: the gate of the model, if it has one.
        decoder: its language model, not yet sharded.
        sources: the samples of each training set.
        most: upper bound on the questions in all, the same number from each set, evenly spaced in it.
        at_once: batch size for embedding questions.

    Raises:
        ValueError: the gate cannot be fitted to these questions.
    """
    if gate is None or not gate.fitted_buffers or bool(gate.get_buffer("fitted")):
        return
    questions: list[str] = []
    owners: list[int] = []
    for source, samples in enumerate(sources):
        count = min(len(samples), max(1, most // len(sources)))
        for index in range(count):
            sample = samples[index * len(samples) // count]
            # Seeded by the sample: some tasks draw one of several forms of their question.
            rng = random.Random(f"{sample.benchmark}/{sample.id}")
            questions.append(TASKS[sample.task].question(sample, rng))
            owners.append(source)

    def pool(texts: Sequence[str]) -> Tensor:
        device, width = cast(Tensor, decoder.lm.get_input_embeddings().weight).device, decoder.width
        means = [torch.zeros(0, width)]
        for start in range(0, len(texts), at_once):
            # With the space that prompts have before the question (`Template.space`): tokens may depend on it.
            ids = [
                torch.tensor(decoder.tokenizer.encode(f" {text}")) for text in texts[start : start + at_once]
            ]
            mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
            embeddings = decoder.embed(pad_sequence(ids, batch_first=True).to(device))
            means.append(pooled(embeddings, mask, width).cpu())
        return torch.cat(means)

    rank_zero_info(gate.fit_questions(questions, owners, pool))
