"""A sample's words come in, token ids with media slots, answer and question marks go out, for every use."""

from dataclasses import dataclass, field

from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer

TAGS = {"image": ("<Img>", "</Img>"), "cloud": ("<Pcl>", "</Pcl>"), "rois": ("<Pcl>", "</Pcl>")}
"""Plain text around the slots of each modality."""


@dataclass(frozen=True)
class Template:
    """The fixed words of a dialogue, and the plain-text tags that stand around the slots of each modality."""

    system: str = ""
    human: str = "### Human:"
    assistant: str = "\n### Assistant:"
    between: str = "\n"
    tags: dict[str, tuple[str, str]] = field(default_factory=lambda: dict(TAGS))


@dataclass(frozen=True)
class Prompt:
    """One instance as token ids.

    Attributes:
        ids: all tokens; slots hold the padding id until the model overwrites their embeddings.
        answer_start: where the answer begins; `len(ids)` when there is none (generation).
        slots: modality to its slot positions, in order.
        question_ids: the tokens of the question alone, which the gate reads.
    """

    ids: list[int]
    answer_start: int
    slots: dict[str, list[int]]
    question_ids: list[int]


class PromptBuilder:
    """Writes prompts for one tokenizer, one template and one number of slots per modality."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        slots: dict[str, int],
        template: Template | None = None,
        max_tokens: int = 2048,
    ) -> None:
        """Keeps the parts.

        Args:
            tokenizer: of the decoder.
            slots: how many vectors a modality brings, e.g. `{"image": 256}`.
            template: fixed words; the default is the paper's Human / Assistant dialogue.
            max_tokens: the longest prompt with its answer.
        """
        self.tokenizer = tokenizer
        self.slots = slots
        self.template = template or Template()
        self.max_tokens = max_tokens

    def build(self, sample: Sample, question: str, answer: str | None) -> Prompt:
        """Writes one prompt; without an answer it ends where the model should go on.

        Raises:
            ValueError: a modality that has no slots, an empty question or answer, or more than `max_tokens`.
        """
        encode, fixed, words = self.tokenizer.encode, self._fixed, self.template
        if not question.strip():
            raise ValueError(f"sample {sample.id}: the question is empty; the gate reads it, so write one")
        if answer is not None and not answer.strip():
            raise ValueError(f"sample {sample.id}: the answer is empty; a training sample needs one")
        ids = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        ids += fixed(words.system) + fixed(words.human)
        slots = self._write_slots(ids, sample)
        for asked, answered in sample.history:
            ids += encode(f" {asked}") + fixed(words.assistant) + encode(f" {answered}")
            ids += fixed(words.between) + fixed(words.human)
        question_ids = encode(f" {question}")
        ids += question_ids + fixed(words.assistant)
        start = len(ids)
        if answer is not None:
            ids += [*encode(f" {answer}"), self.tokenizer.eos_id]
        if len(ids) > self.max_tokens:
            raise ValueError(
                f"sample {sample.id}: {len(ids)} tokens, {len(ids) - start} of them the answer's, but "
                f"max_tokens is {self.max_tokens}; raise it, or leave the sample out"
            )
        return Prompt(ids, start, slots, question_ids)

    def _fixed(self, words: str) -> list[int]:
        """Tokens of the template's own words, in which special tokens may stand; none for no words."""
        return self.tokenizer.encode(words, special=True) if words else []

    def _write_slots(self, ids: list[int], sample: Sample) -> dict[str, list[int]]:
        """Appends tag, slots and tag of every medium of the sample; gives the slot positions."""
        positions: dict[str, list[int]] = {}
        for modality in sample.media:
            if modality not in self.slots:
                raise ValueError(
                    f"sample {sample.id} brings the modality {modality!r}, but this model takes "
                    f"{', '.join(sorted(self.slots)) or 'none'}; add an encoder or leave the data set out"
                )
            before, after = self.template.tags.get(modality, ("", ""))
            ids += self._fixed(before)
            positions[modality] = list(range(len(ids), len(ids) + self.slots[modality]))
            ids += [self.tokenizer.pad_id] * self.slots[modality]
            ids += self._fixed(after)
        return positions
