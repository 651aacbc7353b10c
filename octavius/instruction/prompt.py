"""A sample's words come in, token ids with media slots, answer and question marks go out, for every use."""

from dataclasses import dataclass, field
from typing import Literal

from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.limits import COUNT, WHOLE

TAGS = {"image": ("<Img>", "</Img>"), "cloud": ("<Pcl>", "</Pcl>"), "rois": ("<Pcl>", "</Pcl>")}
"""Plain text around the slots of each modality."""


@dataclass(frozen=True)
class Template:
    """The fixed words of a dialogue, and the plain-text tags that stand around the slots of each modality.

    The first five are all that most models need; the others write the prompts of the published code as well.

    Attributes:
        system: stands first; or in the place of `{system}` in `human` or `opening`, where one of them has it.
        human: before the media and the first question.
        assistant: after each question.
        between: after each earlier answer, before the words of the next turn.
        tags: modality to the words before and after its slots.
        systems: by task, in the place of `system`.
        opening: between the media and the first question.
        again: before later questions, in the place of `human`.
        end: ends each answer; empty for the tokenizer's end-of-sequence token.
        joined: reads question and words around it as one text, likewise an answer and its end, and puts no blank
            before questions and answers. Only whole texts have the tokens that such a model was trained with.
        gate: what the gate reads: the question, the first one of the dialogue, or all of the prompt after the media.
        padded: modality to a number of slots up to which hidden positions follow its own.
        longest: how many tokens after the media training keeps; what is longer is cut.
        space: before each question and answer, unless they are `joined`.
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
        """Refuses numbers that mean nothing."""
        WHOLE.check(padded=self.padded)
        COUNT.check(longest=self.longest)


@dataclass(frozen=True)
class Prompt:
    """One instance as token ids.

    Attributes:
        ids: all tokens; slots hold the padding id until the model overwrites their embeddings.
        answer_start: where the answer begins; `len(ids)` when there is none (generation).
        slots: modality to its slot positions, in order.
        question_ids: the tokens that the gate reads: of the question alone, unless the template says more.
        hidden: positions that no other one attends to.
    """

    ids: list[int]
    answer_start: int
    slots: dict[str, list[int]]
    question_ids: list[int]
    hidden: list[int] = field(default_factory=list)


class PromptBuilder:
    """Writes prompts for one tokenizer, one number of slots per modality, and a template or two."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        slots: dict[str, int],
        template: Template | None = None,
        max_tokens: int = 2048,
        asking: Template | None = None,
    ) -> None:
        """Keeps the parts.

        Args:
            tokenizer: of the decoder.
            slots: how many vectors a modality brings, e.g. `{"image": 256}`.
            template: fixed words; the default is the paper's Human / Assistant dialogue.
            max_tokens: the longest prompt with its answer.
            asking: the words where an answer is to be generated; the template's, unless given.
        """
        self.tokenizer = tokenizer
        self.slots = slots
        self.template = template or Template()
        self.asking = asking or self.template
        self.max_tokens = max_tokens

    def build(self, sample: Sample, question: str, answer: str | None) -> Prompt:
        """Writes one prompt; without an answer it ends where the model should go on.

        Raises:
            ValueError: a modality that has no slots, an empty question or answer, or more than `max_tokens`.
        """
        if not question.strip():
            raise ValueError(f"sample {sample.id}: the question is empty; the gate reads it, so write one")
        if answer is not None and not answer.strip():
            raise ValueError(f"sample {sample.id}: the answer is empty; a training sample needs one")
        words = self.asking if answer is None else self.template
        system = words.systems.get(sample.task, words.system)
        first = "" if "{system}" in words.human + words.opening else system
        ids = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        ids += self._fixed(first) + self._fixed(words.human.replace("{system}", system))
        slots, hidden, tag = self._write_slots(ids, sample, words)
        begin = len(ids)
        ids += tag
        opening = words.opening.replace("{system}", system)
        for asked, answered in sample.history:
            ids += self._asked(opening, asked, words) + self._answered(answered, words, between=True)
            opening = words.human.replace("{system}", "") if words.again is None else words.again
        ids += self._asked(opening, question, words)
        start = len(ids)
        if answer is not None:
            ids += self._answered(answer, words)
        if words.longest is not None and answer is not None:
            ids = ids[: begin + words.longest]
        if len(ids) > self.max_tokens:
            raise ValueError(
                f"sample {sample.id}: {len(ids)} tokens, {len(ids) - start} of them the answer's, but "
                f"max_tokens is {self.max_tokens}; raise it, or leave the sample out"
            )
        if start >= len(ids) and answer is not None:
            raise ValueError(
                f"sample {sample.id}: nothing of the answer is left within {words.longest} tokens; raise `longest` "
                "of the template, or leave the sample out"
            )
        return Prompt(ids, start, slots, self._read_by_gate(sample, question, ids[begin:], words), hidden)

    def _asked(self, opening: str, question: str, words: Template) -> list[int]:
        """Tokens of a question with the words around it."""
        if words.joined:
            return self.tokenizer.encode(f"{opening}{question}{words.assistant}")
        return (
            self._fixed(opening)
            + self.tokenizer.encode(words.space + question)
            + self._fixed(words.assistant)
        )

    def _answered(self, answer: str, words: Template, between: bool = False) -> list[int]:
        """Tokens of an answer and its end; of an earlier one with what comes before the next turn."""
        if words.joined:
            ids = self.tokenizer.encode(f"{answer}{words.end}")
        else:
            ids = self.tokenizer.encode(words.space + answer) + self._fixed(words.end)
        if between:
            return ids + self._fixed(words.between)
        return ids if words.end else [*ids, self.tokenizer.eos_id]

    def _read_by_gate(self, sample: Sample, question: str, asked: list[int], words: Template) -> list[int]:
        """Tokens that the gate reads."""
        if words.gate == "prompt":
            return asked
        text = sample.history[0][0] if words.gate == "first" and sample.history else question
        return self.tokenizer.encode(text if words.joined else words.space + text)

    def _fixed(self, words: str) -> list[int]:
        """Tokens of the template's own words, in which special tokens may stand; none for no words."""
        return self.tokenizer.encode(words, special=True) if words else []

    def _write_slots(
        self, ids: list[int], sample: Sample, words: Template
    ) -> tuple[dict[str, list[int]], list[int], list[int]]:
        """Appends tag and slots of every medium of the sample, with the tags between them.

        Returns:
            The slot positions, the hidden ones, and the tokens of the last tag, which are still to be written.
        """
        positions: dict[str, list[int]] = {}
        hidden: list[int] = []
        after: list[int] = []
        for modality in sample.media:
            if modality not in self.slots:
                raise ValueError(
                    f"sample {sample.id} brings the modality {modality!r}, but this model takes "
                    f"{', '.join(sorted(self.slots)) or 'none'}; add an encoder or leave the data set out"
                )
            before, behind = words.tags.get(modality, ("", ""))
            ids += after + self._fixed(before)
            end = len(ids) + self.slots[modality]
            padded = max(end, len(ids) + words.padded.get(modality, 0))
            positions[modality] = list(range(len(ids), end))
            hidden += range(end, padded)
            ids += [self.tokenizer.pad_id] * (padded - len(ids))
            after = self._fixed(behind)
        return positions, hidden, after
