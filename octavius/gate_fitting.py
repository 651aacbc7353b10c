"""Fits a gate to the training questions before training: clusters of questions, or a classifier of their sources."""

import random
from collections.abc import Sequence
from typing import cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from octavius.decoder import Decoder
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
    """Fits a gate that asks for it and is not fitted yet; every process does the same and comes to the same gate.

    Args:
        gate: of the model.
        decoder: its language model, not yet sharded.
        sources: the samples of each training set.
        most: how many questions are taken in all, as many of each set and evenly spaced in it.
        at_once: questions that are embedded at once.

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
            rng = random.Random(f"{sample.benchmark}/{sample.id}")
            questions.append(TASKS[sample.task].question(sample, rng))
            owners.append(source)

    def pool(texts: Sequence[str]) -> Tensor:
        device, width = cast(Tensor, decoder.lm.get_input_embeddings().weight).device, decoder.width
        means = [torch.zeros(0, width)]
        for start in range(0, len(texts), at_once):
            ids = [
                torch.tensor(decoder.tokenizer.encode(f" {text}")) for text in texts[start : start + at_once]
            ]
            mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
            embeddings = decoder.embed(pad_sequence(ids, batch_first=True).to(device))
            means.append(pooled(embeddings, mask, width).cpu())
        return torch.cat(means)

    rank_zero_info(gate.fit_questions(questions, owners, pool))
