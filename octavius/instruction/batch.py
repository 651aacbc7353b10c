"""Collates prompts with their media into a `Batch` of tensors: padded, or packed into one row."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from octavius.instruction.prompt import Prompt, PromptBuilder
from octavius.instruction.sample import Media, Sample

Layout: TypeAlias = Literal["left", "right", "packed"]
"""Side on which rows are padded; `packed` concatenates all examples in one row without padding."""

IGNORE_INDEX = -100
"""Label of positions that are not part of an answer; the default `ignore_index` of PyTorch's cross-entropy."""


class Loader(ABC):
    """Loads media items and collates them into a batch; both run in the DataLoader workers where there are any."""

    @abstractmethod
    def __call__(self, media: Media) -> Any:
        """Loads one media item: a tensor, or `torch_geometric.data.Data` if sizes differ."""

    def collate(self, items: Sequence[Any]) -> Any:
        """Batches loaded items; by default stacks M tensors of equal shape to (M, ...)."""
        return torch.stack(list(items))


@dataclass(frozen=True)
class LeftOut:
    """A sample that could not be read, or whose prompt could not be built.

    Attributes:
        sample: the sample.
        reason: the error message.
    """

    sample: Sample
    reason: str


@dataclass(frozen=True)
class Origin:
    """What an evaluation records of a sample in a batch besides its answer.

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
    """One instance, ready to be batched: its prompt and its loaded media.

    Attributes:
        sample: the sample.
        prompt: its prompt.
        media: modality to what its loader returned.
        instead_of: the unreadable sample that this one replaces; None if it replaces none.
        set_name: name of the evaluation set; empty in training.
        index: index of the sample in the evaluation dataset.
    """

    sample: Sample
    prompt: Prompt
    media: dict[str, Any]
    instead_of: LeftOut | None = None
    set_name: str = ""
    index: int = 0


@dataclass
class Batch:
    """A batch of instances; B samples, T tokens, Q question tokens.

    Attributes:
        input_ids: (B, T) token ids; placeholders of media (`slots`) hold the padding id.
        attention_mask: (B, T) 1 at tokens and slots, 0 at padding and at positions that the prompt masks out.
        labels: (B, T) token ids of the answer and its end token, -100 elsewhere; not shifted.
        question_ids: (B, Q) token ids that the gate reads, right-padded.
        question_mask: (B, Q) 1 at tokens, 0 at padding.
        slots: modality to (N, 2) row and column of each slot, in the order of the media embeddings that replace them.
        media: modality to the collated media of those samples that have it: a stacked tensor, or a
            `torch_geometric.data.Batch` if sizes differ.
        samples: the samples, B of them.
        segments: (1, T) index of the sample that each token belongs to, if the batch is packed: one row holds
            all samples, concatenated. None otherwise.
        left_out: for each sample the one that it replaces because that could not be read, or None; may be empty.
        origins: for each sample its question as text, evaluation set and index there; may be empty in training.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    question_ids: Tensor
    question_mask: Tensor
    slots: dict[str, Tensor]
    media: dict[str, Any]
    samples: list[Sample]
    segments: Tensor | None = None
    left_out: tuple[LeftOut | None, ...] = ()
    origins: tuple[Origin, ...] = ()

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

    def __init__(self, prompts: PromptBuilder, loaders: dict[str, Loader]) -> None:
        """Takes the prompt builder and one media loader per modality."""
        self.prompts = prompts
        self.loaders = loaders

    def example(self, sample: Sample, question: str, answer: str | None) -> Example:
        """Builds the prompt and loads the media of one sample.

        Raises:
            ValueError: the prompt cannot be built or a media item cannot be read; the message names the sample.
        """
        prompt = self.prompts.build(sample, question, answer)
        try:
            media = {modality: self.loaders[modality](item) for modality, item in sample.media.items()}
        except ValueError as error:
            raise ValueError(f"sample {sample.id} of {sample.benchmark}: {error}") from None
        return Example(sample, prompt, media)

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
        return collate(examples, self.prompts.tokenizer.pad_id, layout, self.loaders)


def collate(examples: Sequence[Example], pad_id: int, layout: Layout, loaders: Mapping[str, Loader]) -> Batch:
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
    longest_question = max(len(example.prompt.question_ids) for example in examples)
    input_ids, labels = torch.full(shape, pad_id), torch.full(shape, IGNORE_INDEX)
    attention_mask, segments = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    question_ids = torch.full((count, longest_question), pad_id)
    question_mask = torch.zeros(count, longest_question, dtype=torch.long)
    slots: dict[str, list[tuple[int, int]]] = {}
    media: dict[str, list[Any]] = {}
    for index, (example, (row, start)) in enumerate(zip(examples, starts, strict=True)):
        prompt = example.prompt
        ids = torch.tensor(prompt.ids)
        input_ids[row, start : start + len(ids)] = ids
        attention_mask[row, start : start + len(ids)] = 1
        attention_mask[row, [start + column for column in prompt.hidden]] = 0
        segments[row, start : start + len(ids)] = index
        labels[row, start + prompt.answer_start : start + len(ids)] = ids[prompt.answer_start :]
        question_ids[index, : len(prompt.question_ids)] = torch.tensor(prompt.question_ids)
        question_mask[index, : len(prompt.question_ids)] = 1
        for modality, columns in prompt.slots.items():
            # Slots and media are appended together, so that vector i of a modality belongs into slot i.
            slots.setdefault(modality, []).extend((row, column + start) for column in columns)
            media.setdefault(modality, []).append(example.media[modality])
    return Batch(
        input_ids,
        attention_mask,
        labels,
        question_ids,
        question_mask,
        {modality: torch.tensor(cells) for modality, cells in slots.items()},
        {modality: loaders[modality].collate(items) for modality, items in media.items()},
        [example.sample for example in examples],
        segments if layout == "packed" else None,
        tuple(example.instead_of for example in examples),
        tuple(Origin(one.prompt.question, one.prompt.gate_text, one.set_name, one.index) for one in examples),
    )
