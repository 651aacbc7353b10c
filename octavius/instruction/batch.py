"""Collates prompts with their media into a `Batch` of tensors: padded, or packed into one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from octavius.instruction.media_loader import MediaLoader
from octavius.instruction.prompt import Prompt, PromptBuilder
from octavius.instruction.sample import Sample

Layout: TypeAlias = Literal["left", "right", "packed"]
"""Side on which rows are padded; `packed` concatenates all examples in one row without padding."""

IGNORE_INDEX = -100
"""Label of positions that are not part of an answer; the default `ignore_index` of PyTorch's cross-entropy."""


@dataclass(frozen=True)
class FailedSample:
    """A sample that could not be read, or whose prompt could not be built.

    Attributes:
        sample: the sample.
        reason: the error message.
    """

    sample: Sample
    reason: str


@dataclass(frozen=True)
class EvalMetadata:
    """Metadata that an evaluation writes with the prediction for a sample.

    Attributes:
        question: the question as text.
        gate_text: the text that the gate reads.
        set_name: name of the evaluation set; empty in training.
        index: index of the sample in the evaluation dataset.
    """

    question: str
    gate_text: str
    set_name: str = ""
    index: int = 0


@dataclass(frozen=True)
class Example:
    """A sample with its prompt and its loaded media, ready to be batched.

    Attributes:
        sample: the sample.
        prompt: its prompt.
        media: modality to what its loader returned for each medium, in the order of their slots.
        replaces: the failed sample in whose place this one was taken; None if it is the sample that was asked for.
        set_name: name of the evaluation set; empty in training.
        index: index of the sample in the evaluation dataset.
    """

    sample: Sample
    prompt: Prompt
    media: dict[str, list[Any]]
    replaces: FailedSample | None = None
    set_name: str = ""
    index: int = 0


@dataclass
class Batch:
    """A batch of examples; B samples, T tokens, Q tokens that the gate reads.

    Attributes:
        input_ids: (B, T) token ids; placeholders of media (`slots`) hold the padding id.
        attention_mask: (B, T) 1 at tokens and slots, 0 at padding and at positions that the prompt masks out.
        labels: (B, T) token ids of the answer and its end token, -100 elsewhere; not shifted.
        gate_ids: (B, Q) token ids of `gate_text`, which the gate reads, right-padded.
        gate_mask: (B, Q) 1 at tokens, 0 at padding.
        slots: modality to (N, 2) row and column of each slot, in the order of the media embeddings that replace them.
        media: modality to the collated media of those samples that have it, any number each: a stacked tensor, or a
            `torch_geometric.data.Batch` if sizes differ.
        samples: the samples, B of them.
        segment_ids: (1, T) index of the sample that each token belongs to, if the batch is packed: one row holds
            all samples, concatenated. None otherwise.
        replaces: for each sample the failed one that it replaces, or None; may be empty.
        metadata: for each sample what an evaluation writes with its prediction; may be empty in training.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    gate_ids: Tensor
    gate_mask: Tensor
    slots: dict[str, Tensor]
    media: dict[str, Any]
    samples: list[Sample]
    segment_ids: Tensor | None = None
    replaces: tuple[FailedSample | None, ...] = ()
    metadata: tuple[EvalMetadata, ...] = ()

    def to(self, device: torch.device | str, **kwargs: Any) -> "Batch":
        """The batch with all tensors moved to a device."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            return value.to(device, **kwargs) if hasattr(value, "to") else value

        return Batch(**{entry.name: move(getattr(self, entry.name)) for entry in fields(self)})

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)


class Processor:
    """Turns samples into examples and examples into batches, the same way in training, evaluation and use.

    Both run in the DataLoader workers where there are any.
    """

    def __init__(self, prompts: PromptBuilder, loaders: dict[str, MediaLoader]) -> None:
        """Takes the prompt builder and one media loader per modality."""
        self.prompts = prompts
        self.loaders = loaders

    def build_example(self, sample: Sample, question: str, answer: str | None) -> Example:
        """Builds the prompt and loads the media of one sample.

        Raises:
            ValueError: the prompt cannot be built or a media item cannot be read; the message names the sample.
        """
        prompt = self.prompts.build(sample, question, answer)
        try:
            return Example(sample, prompt, self.load(sample))
        except ValueError as error:
            raise ValueError(f"sample {sample.id} of {sample.benchmark}: {error}") from None

    def assemble(
        self, sample: Sample, question: str, answer: str | None, media: dict[str, list[Any]]
    ) -> Example:
        """The example of a sample whose media are loaded.

        Raises:
            ValueError: the prompt cannot be built.
        """
        return Example(sample, self.prompts.build(sample, question, answer), media)

    def load(self, sample: Sample) -> dict[str, list[Any]]:
        """Loads all media of a sample, by modality.

        Raises:
            ValueError: one cannot be read.
        """
        media: dict[str, list[Any]] = {}
        for modality, item in sample.all_media:
            media.setdefault(modality, []).append(self.loaders[modality](item))
        return media

    def collate(self, examples: Sequence[Example], packed: bool = False) -> Batch:
        """Batches examples: right-padded for training, left-padded for generation.

        Args:
            examples: examples that all have an answer, or all have none.
            packed: concatenate examples with answers in one row.
        """
        answered = [len(example.prompt.ids) > example.prompt.answer_start for example in examples]
        assert all(answered) or not any(answered), (
            "either all examples of a batch have an answer (training) or none has (generation)"
        )
        layout: Layout = "left" if not all(answered) else "packed" if packed else "right"
        return collate_examples(examples, self.prompts.tokenizer.pad_id, layout, self.loaders)


def collate_examples(
    examples: Sequence[Example], pad_id: int, layout: Layout, loaders: Mapping[str, MediaLoader]
) -> Batch:
    """Pads examples to the longest, or concatenates them in one row, and collates their media.

    Args:
        examples: at least one example.
        pad_id: token id of padding.
        layout: side of the padding, or `packed`.
        loaders: modality to the loader that collates its media.
    """
    lengths = [len(example.prompt.ids) for example in examples]
    longest = max(lengths)
    # Row and column of the first token of each example.
    starts = [(row, longest - length if layout == "left" else 0) for row, length in enumerate(lengths)]
    count, shape = len(examples), (len(examples), longest)
    if layout == "packed":
        starts = [(0, end - length) for end, length in zip(accumulate(lengths), lengths, strict=True)]
        shape = 1, sum(lengths)
    longest_gate_text = max(len(example.prompt.gate_ids) for example in examples)
    input_ids, labels = torch.full(shape, pad_id), torch.full(shape, IGNORE_INDEX)
    attention_mask, segment_ids = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    gate_ids = torch.full((count, longest_gate_text), pad_id)
    gate_mask = torch.zeros(count, longest_gate_text, dtype=torch.long)
    slots: dict[str, list[tuple[int, int]]] = {}
    media: dict[str, list[Any]] = {}
    for index, (example, (row, start)) in enumerate(zip(examples, starts, strict=True)):
        prompt = example.prompt
        ids = torch.tensor(prompt.ids)
        input_ids[row, start : start + len(ids)] = ids
        attention_mask[row, start : start + len(ids)] = 1
        attention_mask[row, [start + column for column in prompt.masked]] = 0
        segment_ids[row, start : start + len(ids)] = index
        labels[row, start + prompt.answer_start : start + len(ids)] = ids[prompt.answer_start :]
        gate_ids[index, : len(prompt.gate_ids)] = torch.tensor(prompt.gate_ids)
        gate_mask[index, : len(prompt.gate_ids)] = 1
        for modality, columns in prompt.slots.items():
            # Slots and media are appended together, so that vector i of a modality belongs into slot i.
            slots.setdefault(modality, []).extend((row, column + start) for column in columns)
            media.setdefault(modality, []).extend(example.media[modality])
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=labels,
        gate_ids=gate_ids,
        gate_mask=gate_mask,
        slots={modality: torch.tensor(cells) for modality, cells in slots.items()},
        media={modality: loaders[modality].collate(items) for modality, items in media.items()},
        samples=[example.sample for example in examples],
        segment_ids=segment_ids if layout == "packed" else None,
        replaces=tuple(example.replaces for example in examples),
        metadata=tuple(
            EvalMetadata(one.prompt.question, one.prompt.gate_text, one.set_name, one.index)
            for one in examples
        ),
    )
