"""A gate and the training samples come in; one that goes by clusters of questions has them afterwards."""

import random
from collections.abc import Iterable

import torch
from torch.nn.utils.rnn import pad_sequence

from octavius.decoder import Decoder
from octavius.instruction.sample import Sample
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.instance import pooled
from octavius.tasks import TASKS


@torch.no_grad()
def fit_gate(
    gate: Gate | None, decoder: Decoder, samples: Iterable[Sample], most: int = 20_000, at_once: int = 256
) -> None:
    """Fits the clusters of a cluster gate to the questions of the samples, one of each; other gates need nothing.

    Every process does the same, and comes to the same clusters.

    Args:
        gate: of the model.
        decoder: its language model, not yet sharded.
        samples: the training samples.
        most: how many questions are taken, the first ones.
        at_once: questions that are embedded at once.

    Raises:
        ValueError: there are fewer different questions than clusters.
    """
    if not isinstance(gate, ClusterGate) or bool(gate.get_buffer("fitted")):
        return
    questions: list[str] = []
    for sample in samples:
        questions.append(
            TASKS[sample.task].question(sample, random.Random(f"{sample.benchmark}/{sample.id}"))
        )
        if len(questions) == most:
            break
    means = [torch.zeros(0, gate.width)]
    for start in range(0, len(questions), at_once):
        texts = questions[start : start + at_once]
        ids = [torch.tensor(decoder.tokenizer.encode(f" {text}")) for text in texts]
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(gate.weight.device)
        embeddings = decoder.embed(pad_sequence(ids, batch_first=True).to(gate.weight.device))
        means.append(pooled(embeddings, mask, gate.width).cpu())
    gate.fit(torch.cat(means))
