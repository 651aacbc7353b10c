"""Prompts of the published code: texts tokenized together, padded slots, truncation, and the gate's input.

The published code is that of the authors of the Octavius paper.
"""

from collections.abc import Mapping

from octavius.instruction.prompt import Piece, Prompt, PromptBuilder, Template, check_texts
from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer


def prompt_builder(
    tokenizer: Tokenizer,
    slots: dict[str, int],
    template: Template | None = None,
    max_tokens: int = 2048,
    generation_template: Template | None = None,
    tags: Mapping[str, tuple[str, str]] | None = None,
) -> PromptBuilder:
    """The builder required by the templates; takes `PromptBuilder`'s arguments."""
    templates = [one for one in (template, generation_template) if one is not None]
    kind = PublishedPromptBuilder if any(one.published_options for one in templates) else PromptBuilder
    return kind(tokenizer, slots, template, max_tokens, generation_template, tags)


class PublishedPromptBuilder(PromptBuilder):
    """Supports every template option; without published-code options, builds `PromptBuilder`'s prompts."""

    def check_template(self, template: Template) -> None:
        """Accepts every template."""

    def build(self, sample: Sample, question: str, answer: str | None) -> Prompt:
        """Builds one prompt; without an answer it ends where generation starts.

        Raises:
            ValueError: a modality has no slots, the question or the answer is empty, media stand inside a question,
                or the truncation leaves nothing of the answer.
            TooLongError: the prompt has more than `max_tokens`.
        """
        check_texts(sample, question, answer)
        if sample.placed:
            raise ValueError(
                f"sample {sample.id} has media inside its questions, which prompts of the published code never have; "
                "leave the options of the published code out of the template"
            )
        template = self.generation_template if answer is None else self.template
        system = template.systems.get(sample.task, template.system)
        first = "" if "{system}" in template.human + template.opening else system
        ids = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        ids += self._fixed(first) + self._fixed(template.human.replace("{system}", system))
        slots, masked, tag = self._write_padded_slots(ids, sample, template)
        begin = len(ids)  # the closing tag counts towards `longest`, the slots do not
        pieces: list[Piece] = [(tag, True)]
        opening = template.opening.replace("{system}", system)
        for asked, answered in sample.history:
            pieces += [
                *_asked(opening, asked, template),
                *_answered(answered, template),
                (template.between, True),
            ]
            opening = template.human.replace("{system}", "") if template.again is None else template.again
        pieces += _asked(opening, question, template)
        ids += self._encode(pieces)
        start = len(ids)
        if answer is not None:
            pieces += (said := _answered(answer, template))
            ids += self._encode(said) + ([] if template.end else [self.tokenizer.eos_id])
        if template.longest is not None and answer is not None:
            ids = ids[: begin + template.longest]
        self._check_length(ids, start, sample)
        if start >= len(ids) and answer is not None:
            raise ValueError(
                f"sample {sample.id}: nothing of the answer is left within {template.longest} tokens; raise "
                "`longest` of the template, or leave the sample out"
            )
        # With `gate: prompt` the gate reads the whole prompt; in training this includes the answer.
        gate_text = "".join(text for text, _ in pieces)
        gate_ids = ids[begin:]
        if template.gate != "prompt":
            gate_text = sample.history[0][0] if template.gate == "first" and sample.history else question
            gate_ids = self.tokenizer.encode(gate_text if template.joined else template.space + gate_text)
        return Prompt(ids, start, slots, gate_ids, masked, question, gate_text)

    def _write_padded_slots(
        self, ids: list[int], sample: Sample, template: Template
    ) -> tuple[dict[str, list[int]], list[int], str]:
        """Appends the slots of every medium, followed by masked positions, with the tags around them.

        Returns:
            The slot positions, the masked positions, and the last closing tag, which the caller appends.
        """
        positions: dict[str, list[int]] = {}
        masked: list[int] = []
        closing_tag = ""
        for modality in sample.media:
            opening_tag, next_closing_tag = self._tags_of(modality, sample, template)
            ids += self._encode([(closing_tag, True), (opening_tag, True)])
            end = len(ids) + self.slots[modality]
            padded = max(end, len(ids) + template.padded.get(modality, 0))
            positions[modality] = list(range(len(ids), end))
            masked += range(end, padded)
            ids += [self.tokenizer.pad_id] * (padded - len(ids))
            closing_tag = next_closing_tag
        return positions, masked, closing_tag


def _asked(opening: str, question: str, template: Template) -> list[Piece]:
    """A question with the text around it."""
    if template.joined:
        return [(f"{opening}{question}{template.assistant}", False)]
    return [(opening, True), (template.space + question, False), (template.assistant, True)]


def _answered(answer: str, template: Template) -> list[Piece]:
    """An answer and the text that ends it."""
    if template.joined:
        return [(f"{answer}{template.end}", False)]
    return [(template.space + answer, False), (template.end, True)]
