"""Fitting of gates before training: to the training questions, or to the gradients of training samples."""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm  # type: ignore[import-untyped]

from octavius.decoder.decoder import Decoder
from octavius.distributed.sharding import copy_whole, unsharded
from octavius.instruction.batch import Batch, Example, Processor
from octavius.instruction.sample import Sample
from octavius.lora_moe.build import gate_of
from octavius.lora_moe.gates.base import Gate, Sketches
from octavius.lora_moe.gates.question import pooled
from octavius.lora_moe.sketch import sketching
from octavius.model import Octavius
from octavius.tasks import TASKS

SAMPLES_PER_EXPERT, MOST_SAMPLES = 256, 4096
"""Training samples whose gradients a gate is fitted to, for each of its experts, and at most in all."""


def needs_fit(gate: Gate | None, fitted_to: str) -> bool:
    """Whether a gate is to be fitted to `questions` or `updates`, and is not fitted yet."""
    wants = gate is not None and bool(gate.fitted_buffers) and gate.fitted_to == fitted_to
    return wants and not bool(cast(Gate, gate).get_buffer("fitted"))


@torch.no_grad()
def fit_gate(
    gate: Gate | None,
    decoder: Decoder,
    sources: Sequence[Sequence[Sample]],
    most: int = 20_000,
    at_once: int = 256,
) -> None:
    """Fits a gate to the training questions, unless it is fitted already; does nothing for other gates.

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
    if not needs_fit(gate, "questions"):
        return
    chosen = spaced(sources, most)
    questions = [question_of(sample) for _, sample in chosen]
    owners = [source for source, _ in chosen]
    rank_zero_info(cast(Gate, gate).fit_questions(questions, owners, pooling(decoder, at_once)))


def fit_gate_to_questions(model: Octavius, sources: Sequence[Sequence[Sample]]) -> None:
    """Fits the gate of a model, which may be sharded, to the training questions.

    Args:
        model: the model.
        sources: the samples of each training set.

    Raises:
        ValueError: the gate cannot be fitted to these questions.
    """
    with whole_gate(model) as gate:
        fit_gate(gate, model.decoder, sources)


@contextmanager
def whole_gate(model: Octavius) -> Iterator[Gate]:
    """A copy of the gate that is not sharded, to be fitted; afterwards the gate gets its values."""
    assert model.gate is not None
    assert model.lora is not None
    whole = gate_of(model.lora, model.gate.size)
    assert whole is not None
    # What the fit leaves alone keeps its values, which are the same on all ranks; those of a new gate may not be.
    copy_whole(model.gate, whole)
    with unsharded(model):
        yield whole
    copy_whole(whole, model.gate)


def fit_gate_to_updates(
    model: Octavius,
    processor: Processor,
    sources: Sequence[Sequence[Sample]],
    batch_size: int = 16,
    skip: tuple[type[Exception], ...] = (),
) -> None:
    """Fits a gate to the gradients of training samples.

    Every process computes the gradients of its share of the samples, and the same fit from all of them.

    Args:
        model: the model on its device, which may be sharded.
        processor: its processor.
        sources: the samples of each training set; the same number is taken of each.
        batch_size: samples per backward pass.
        skip: exceptions of samples that are left out.

    Raises:
        ValueError: a sample cannot be read, or none can.
    """
    assert model.gate is not None
    most = min(SAMPLES_PER_EXPERT * max(model.gate.counts), MOST_SAMPLES)
    samples = [sample for _, sample in spaced(sources, most)]
    rank_zero_info(f"the gate is fitted to the gradients of {len(samples)} training samples ...")
    questions, sketches = updates_of(model, processor, samples, batch_size, skip)
    with whole_gate(model) as whole:
        rank_zero_info(whole.fit_updates(questions, sketches, pooling(model.decoder)))


def updates_of(
    model: Octavius,
    processor: Processor,
    samples: Sequence[Sample],
    batch_size: int,
    skip: tuple[type[Exception], ...] = (),
) -> tuple[list[str], Sketches]:
    """Sketches of the difference of two gradients: with the true answer, and with that of another sample of the task.

    Args:
        model: the model; its mode is restored, its gradients are cleared.
        processor: its processor.
        samples: the samples; with several processes each computes a share, and all get the results of all.
        batch_size: samples per backward pass.
        skip: exceptions of samples that are left out.

    Returns:
        The questions of N samples, and their sketches in fp32 on the CPU; inputs are those with the true answer.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    # The same number of passes on all ranks: under FSDP a pass is collective.
    padded = [*samples, *samples[: -len(samples) % world]]
    pairs = list(enumerate(zip(padded, others(padded), strict=True)))[rank::world]
    found: list[tuple[int, str, Tensor, Tensor]] = []
    training = model.training
    model.eval()
    bar = tqdm(total=len(pairs), desc="gradients for the gate", disable=rank > 0 or not sys.stderr.isatty())
    with bar, torch.compiler.set_stance("force_eager"):  # not worth the minutes that compiling takes
        for start in range(0, len(pairs), batch_size):
            share = pairs[start : start + batch_size]
            examples: dict[int, tuple[str, Example, Example]] = {}
            for index, (sample, other) in share:
                question = question_of(sample)
                with suppress(*skip):
                    true, false = (
                        processor.build_example(sample, question, answer_of(one)) for one in (sample, other)
                    )
                    examples[index] = (question, true, false)
            if not examples:
                continue
            asked, *both = zip(*examples.values(), strict=True)
            true_rows, false_rows = (sketch(model, processor.collate(rows)) for rows in both)
            updates = true_rows.updates - false_rows.updates
            found += zip(examples, asked, updates, true_rows.inputs, strict=True)
            bar.update(len(share))
    model.train(training)
    gathered: list[Any] = [found]
    if world > 1:
        gathered = [None] * world
        dist.all_gather_object(gathered, found)
    # In the order of the samples, so that the number of processes makes no difference.
    ordered = sorted((one for part in gathered for one in part), key=lambda one: one[0])
    # An overflow of half precision would spread to all samples.
    finite = [row for row in ordered if all(bool(part.isfinite().all()) for part in row[2:])]
    if not finite:
        raise ValueError(
            f"the gate is to be fitted to the gradients of training samples, and none of {len(samples)} can be read "
            "or has a finite gradient; check the data with `octavius check-data`, or take `gate: instance`"
        )
    _, questions, update_rows, input_rows = zip(*finite, strict=True)
    return list(questions), Sketches(torch.stack(update_rows), torch.stack(input_rows))


def sketch(model: Octavius, batch: Batch) -> Sketches:
    """Sketches of the gradient of each sample's mean loss per answer token, on the CPU."""
    with sketching(model) as parts:
        out = model(batch)
        counts = torch.bincount(out.rows, minlength=len(batch)).clamp(min=1)
        (out.losses / counts[out.rows]).sum().backward()
    model.zero_grad(set_to_none=True)
    updates, inputs = zip(*(parts[index] for index in sorted(parts)), strict=True)
    return Sketches(torch.stack(updates, dim=1).cpu(), torch.stack(inputs, dim=1).cpu())


def others(samples: Sequence[Sample]) -> list[Sample]:
    """For each sample another one of the same task, drawn with a fixed seed; itself if there is no other."""
    tasks: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        tasks.setdefault(sample.task, []).append(index)
    found = list(samples)
    for indices in tasks.values():
        shuffled = random.Random(0).sample(indices, len(indices))
        for turn, index in enumerate(shuffled):
            found[index] = samples[shuffled[turn - 1]]
    return found


def answer_of(sample: Sample) -> str:
    """The answer of a sample as in training, with the randomness of some tasks seeded by the sample."""
    return TASKS[sample.task].answer(sample, random.Random(f"{sample.benchmark}/{sample.id}"))


def spaced(sources: Sequence[Sequence[Sample]], most: int) -> list[tuple[int, Sample]]:
    """Up to `most` samples with their sources, the same number from each source and evenly spaced in it."""
    share = max(1, most // max(1, len(sources)))
    return [
        (source, samples[index * len(samples) // count])
        for source, samples in enumerate(sources)
        for count in [min(len(samples), share)]
        for index in range(count)
    ]


def question_of(sample: Sample) -> str:
    """The question of a sample as in training: some tasks draw one of several forms, seeded by the sample."""
    return TASKS[sample.task].question(sample, random.Random(f"{sample.benchmark}/{sample.id}"))


def pooling(decoder: Decoder, at_once: int = 256) -> Callable[[Sequence[str]], Tensor]:
    """The function that maps n texts to their mean embeddings (n, D) on the CPU, `at_once` in a batch."""

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
            means.append(pooled(embeddings, mask, width).detach().cpu())
        return torch.cat(means)

    return pool
