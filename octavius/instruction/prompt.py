"""Prompts as token ids, with slots for media, answer positions and the tokens that the gate reads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from octavius.instruction.placement import Parts, modalities_of, turns, words
from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.limits import NON_NEGATIVE_INT, POSITIVE_INT

Piece: TypeAlias = tuple[str, bool]
"""A text that is tokenized by itself, and whether special tokens are recognized in it (the template's own text)."""

TAGS = {"image": ("<Img>", "</Img>"), "cloud": ("<Pcl>", "</Pcl>"), "rois": ("<Pcl>", "</Pcl>")}
"""Text before and after the slots of each modality."""


PUBLISHED_OPTIONS = ("systems", "opening", "again", "joined", "gate", "padded", "longest")
"""Options of a template for prompts of the published code."""


@dataclass(frozen=True)
class Template:
    """The fixed text of a dialogue, and the tags around the slots of each modality.

    The attributes from `systems` to `longest` reproduce the prompts of the published code: only the builder of
    `octavius.published.prompts` takes them.

    Attributes:
        system: system prompt; the first text, or, in prompts of the published code, in place of `{system}` in
            `human` or `opening` if one contains it.
        human: text before the media and the first question.
        assistant: text after each question.
        between: text after each earlier answer, before the next turn.
        tags: modality to the texts before and after its slots.
        end: text that ends each answer; empty for the tokenizer's eos token.
        space: text before each question and answer.
        systems: system prompt by task, instead of `system`.
        opening: text between the media and the first question.
        again: text before later questions; null uses `human`.
        joined: tokenize a question with the text around it as one string, likewise an answer with its end,
            without `space`. Needed by models that were trained so, as tokens may merge across the parts.
        gate: what the gate reads: the question, the first question of the dialogue, or the whole prompt after
            the media.
        padded: modality to a number of positions up to which its slots are followed by masked ones.
        longest: in training, truncate the prompt after so many tokens behind the media; null does not
            truncate.
    """

    system: str = ""
    human: str = "### Human:"
    assistant: str = "\n### Assistant:"
    between: str = "\n"
    tags: dict[str, tuple[str, str]] = field(default_factory=lambda: dict(TAGS))
    systems: dict[str, str] = field(default_factory=dict)
    opening: str = ""
    again: str | None = None
    end: str = ""
    joined: bool = False
    gate: Literal["question", "first", "prompt"] = "question"
    padded: dict[str, int] = field(default_factory=dict)
    longest: int | None = None
    space: str = " "

    def __post_init__(self) -> None:
        """Validates the numbers."""
        NON_NEGATIVE_INT.check(padded=self.padded)
        POSITIVE_INT.check(longest=self.longest)

    @property
    def published_options(self) -> list[str]:
        """Names of the options in use that only prompts of the published code have."""
        plain = Template()
        used = [name for name in PUBLISHED_OPTIONS if getattr(self, name) != getattr(plain, name)]
        return [*used, "{system}"] if "{system}" in self.human else used


@dataclass(frozen=True)
class Prompt:
    """A sample with its question and its answer as token ids.

    Attributes:
        ids: all tokens; slots hold the padding id until the model overwrites their embeddings.
        answer_start: index of the answer's first token; `len(ids)` without an answer (generation).
        slots: modality to the indices of its slots, in order; those of one medium after those of another.
        gate_ids: the tokens that the gate reads, those of the question (see also `Template.gate`).
        masked: indices that no other position attends to; only prompts of the published code have some.
        question: the question as text.
        gate_text: the text of `gate_ids`; with `Template.longest` before it was truncated.
    """

    ids: list[int]
    answer_start: int
    slots: dict[str, list[int]]
    gate_ids: list[int]
    masked: list[int] = field(default_factory=list)
    question: str = ""
    gate_text: str = ""


class TooLongError(ValueError):
    """A prompt has more tokens than `PromptBuilder.max_tokens`."""


class PromptBuilder:
    """Builds prompts for a tokenizer, the number of slots per modality, and a template."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        slots: dict[str, int],
        template: Template | None = None,
        max_tokens: int = 2048,
        generation_template: Template | None = None,
        tags: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """Stores the parts.

        Args:
            tokenizer: tokenizer of the decoder.
            slots: number of vectors that each modality has in the prompt, such as `{"image": 256}`.
            template: fixed text; by default the paper's Human / Assistant dialogue.
            max_tokens: largest length of a prompt with its answer.
            generation_template: template for generation; `template` by default.
            tags: modality to the texts before and after its slots, where the template has none.

        Raises:
            ValueError: a template has options of the published code.
        """
        self.tokenizer = tokenizer
        self.slots = slots
        self.template = template or Template()
        self.generation_template = generation_template or self.template
        self.max_tokens = max_tokens
        self.tags = tags or {}
        for each in (self.template, self.generation_template):
            self.check_template(each)

    def saved(self) -> dict[str, Any]:
        """The options `template` and `test_template` of a model that writes the same prompts."""
        return {"template": asdict(self.template), "test_template": asdict(self.generation_template)}

    def check_template(self, template: Template) -> None:
        """Raises ValueError if a template has options that this builder does not implement."""
        if used := template.published_options:
            raise ValueError(
                f"the template has options of the published code: {', '.join(used)}; make its builder by "
                "octavius.published.prompts.prompt_builder"
            )

    def build(self, sample: Sample, question: str, answer: str | None) -> Prompt:
        """Builds one prompt; without an answer it ends where generation starts.

        Raises:
            ValueError: a modality has no slots, or the question or the answer is empty.
            TooLongError: the prompt has more than `max_tokens`.
        """
        check_texts(sample, question, answer)
        template = self.generation_template if answer is None else self.template
        ids = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        ids += self._fixed(template.system) + self._fixed(template.human)
        slots, tag = self._write_slots(ids, sample, template)
        ids += self._fixed(tag)
        opening = ""  # `human` stands before the media already
        answers = [answered for _, answered in sample.history]
        for parts, answered in zip(turns(sample, question), [*answers, None], strict=True):
            ids += self._fixed(opening)
            self._write_question(ids, slots, parts, sample, template)
            ids += self._fixed(template.assistant)
            if answered is not None:
                ids += self._encode([(template.space + answered, False), (template.end, True)])
                ids += self._fixed(template.between)
            opening = template.human
        start = len(ids)
        if answer is not None:
            ids += self._encode([(template.space + answer, False), (template.end, True)])
            ids += [] if template.end else [self.tokenizer.eos_id]
        self._check_length(ids, start, sample)
        read = words(question, modalities_of(sample))
        asked_ids = self.tokenizer.encode(template.space + read)
        return Prompt(ids, start, slots, asked_ids, question=question, gate_text=read)

    def _write_question(
        self, ids: list[int], slots: dict[str, list[int]], parts: Parts, sample: Sample, template: Template
    ) -> None:
        """Appends the texts of a question, and where its placeholders are the slots of the media."""
        space = template.space
        for index, part in enumerate(parts):
            if index % 2:
                before, behind = self._tags_of(part, sample, template)
                ids += self._fixed(before)
                slots.setdefault(part, []).extend(range(len(ids), len(ids) + self.slots[part]))
                ids += [self.tokenizer.pad_id] * self.slots[part]
                ids += self._fixed(behind)
            elif part or len(parts) == 1:
                ids += self._encode([(space + part, False)])
                space = ""

    def _check_length(self, ids: Sequence[int], start: int, sample: Sample) -> None:
        """Raises TooLongError if a prompt, whose answer begins at `start`, has more than `max_tokens`."""
        if len(ids) > self.max_tokens:
            raise TooLongError(
                f"sample {sample.id}: {len(ids)} tokens, {len(ids) - start} of them the answer's, but "
                f"max_tokens is {self.max_tokens}; raise it, or leave the sample out"
            )

    def _encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Token ids of texts that are tokenized one by one."""
        return [
            token
            for text, special in pieces
            if text
            for token in self.tokenizer.encode(text, special=special)
        ]

    def _fixed(self, text: str) -> list[int]:
        """Token ids of the template's own text."""
        return self._encode([(text, True)])

    def _write_slots(
        self, ids: list[int], sample: Sample, template: Template
    ) -> tuple[dict[str, list[int]], str]:
        """Appends the slots of every medium of the sample, with the tags around them.

        Returns:
            The slot positions, and the last closing tag, which the caller appends.
        """
        positions: dict[str, list[int]] = {}
        after = ""
        for modality in sample.media:
            before, behind = self._tags_of(modality, sample, template)
            ids += self._encode([(after, True), (before, True)])
            positions[modality] = list(range(len(ids), len(ids) + self.slots[modality]))
            ids += [self.tokenizer.pad_id] * self.slots[modality]
            after = behind
        return positions, after

    def _tags_of(self, modality: str, sample: Sample, template: Template) -> tuple[str, str]:
        """The texts before and after the slots of a modality.

        Raises:
            ValueError: the model does not take it.
        """
        if modality not in self.slots:
            raise ValueError(
                f"sample {sample.id} has the modality {modality!r}, but this model takes "
                f"{', '.join(sorted(self.slots)) or 'none'}; add an encoder or leave the data set out"
            )
        return template.tags.get(modality, self.tags.get(modality, ("", "")))


def check_texts(sample: Sample, question: str, answer: str | None) -> None:
    """Raises ValueError if the question or the answer is empty; None is no answer, for generation."""
    if not words(question, modalities_of(sample)).strip():
        raise ValueError(f"sample {sample.id}: the question is empty; the gate reads it, so write one")
    if answer is not None and not answer.strip():
        raise ValueError(f"sample {sample.id}: the answer is empty; a training sample needs one")
