"""One conversation that is being answered: its settings, its answer so far, and its sampling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from octavius.callbacks.routing import entropy
from octavius.instruction.batch import Example
from octavius.instruction.sample import Media
from octavius.instruction.tokenizer import Tokenizer
from octavius.lora_moe.routing import Weights

Finish: TypeAlias = Literal["stop", "length", "cancelled"]
"""Why an answer ended: end-of-sequence token or stop string, length limit, or `Row.cancel`."""


@dataclass(frozen=True)
class Question:
    """A question with everything that determines its answer.

    Attributes:
        text: the question.
        history: earlier (question, answer) turns, oldest first.
        media: modality to medium; they stand before the first question, whichever turn they belong to.
        placed: further media, as (modality, medium), which stand at placeholders in the texts (see `Sample`).
        experts: weights of the experts that replace the gate's; None asks the gate.
        max_new_tokens: length limit of the answer.
        temperature: 0 decodes greedily, above 0 samples.
        top_p: samples from the smallest set of tokens with at least this probability.
        stop: strings before which the answer ends.
        seed: seed of the sampling; None draws one. The same seed gives the same answer in any batch.
    """

    text: str
    history: tuple[tuple[str, str], ...] = ()
    media: Mapping[str, Media] = field(default_factory=dict)
    experts: tuple[float, ...] | None = None
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    placed: tuple[tuple[str, Media], ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer, whole or so far; the text of a later one begins with that of an earlier one.

    Attributes:
        text: the text.
        tokens: number of generated tokens.
        prompt_tokens: number of positions of the prompt, including those of the media.
        weights: weights (E,) of the experts; None without experts, or before the first token.
        finish: why the answer ended; None as long as it goes on.
    """

    text: str = ""
    tokens: int = 0
    prompt_tokens: int = 0
    weights: tuple[float, ...] | None = None
    finish: Finish | None = None

    @property
    def entropy(self) -> float | None:
        """Entropy of the normalised weights in nats: 0 if one expert is used, log E if all are used equally."""
        return None if self.weights is None else abs(float(entropy(np.array(self.weights))))

    @property
    def margin(self) -> float | None:
        """Difference between the two largest weights; the weight itself of a single expert."""
        if self.weights is None:
            return None
        first, second = sorted((*self.weights, 0.0), reverse=True)[:2]
        return first - second


Listener: TypeAlias = Callable[[Answer | Exception], None]
"""Called on the engine's thread with each state of an answer, the last one with `finish`, or with an error."""


class Row:
    """A question in the engine.

    Attributes:
        answer: the answer so far.
        error: what went wrong; None as long as nothing did.
        ids: the token ids generated so far.
        prompt: what `Decoder.inputs` makes of the prompt alone, with its media, and the mask (1, T) of that; None
            before the engine has taken up the row.
        weights: gate weights of this row alone, in the form that `Routing.use` takes.
    """

    def __init__(
        self,
        question: Question,
        example: Example,
        tokenizer: Tokenizer,
        end: str,
        limit: int,
        ends: Sequence[int] = (),
    ) -> None:
        """Starts without an answer.

        Args:
            question: the question.
            example: its prompt and loaded media.
            tokenizer: the tokenizer that decodes the answer.
            end: end mark of the template; empty for none.
            limit: length limit of the answer in tokens.
            ends: tokens that end the answer; the tokenizer's end-of-sequence token always does.
        """
        self.question, self.example, self.limit = question, example, limit
        self.answer = Answer(prompt_tokens=len(example.prompt.ids))
        self.error: Exception | None = None
        self.ids: list[int] = []
        self.prompt: tuple[Any, Tensor] | None = None
        self.weights: Weights | None = None
        self.listener: Listener = _nobody
        self._tokenizer, self._end = tokenizer, end
        self._ends = {tokenizer.eos_id, *ends}
        self._stops = tuple(text for text in (end, *question.stop) if text)
        self._cancelled = False
        self._random: torch.Generator | None = None

    @property
    def done(self) -> bool:
        """Whether the answer has ended, with or without an error."""
        return self.answer.finish is not None or self.error is not None

    def cancel(self) -> None:
        """Ends the answer before its next token; from any thread, at any time."""
        self._cancelled = True

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def end_cancelled(self) -> None:
        """Ends the answer as it is."""
        self._say(replace(self.answer, finish="cancelled"))

    def fail(self, error: Exception) -> None:
        """Ends the answer with an error."""
        self.error = error
        self.listener(error)

    def route(self, weights: tuple[float, ...] | None) -> None:
        """Notes the weights of the experts for the reply."""
        self.answer = replace(self.answer, weights=weights)

    def take(self, token: int) -> None:
        """Appends a token to the answer, and ends it if it is the last one."""
        self.ids.append(token)
        self.show(self._tokenizer.decode(self.ids), len(self.ids), self._finish_of(token))

    def show(self, text: str, tokens: int, finish: Finish | None) -> None:
        """Replaces the answer by a longer one, and ends it before the first stop string.

        Args:
            text: the text so far.
            tokens: its number of tokens.
            finish: why it ends there; None if it goes on.
        """
        cuts = [index for stop in self._stops if (index := text.find(stop)) >= 0]
        if cuts:
            text, finish = text[: min(cuts)], "stop"
        elif finish is None:
            text = held_back(text, self._stops)
        text = text.rstrip() if self._end else text
        self._say(replace(self.answer, text=text, tokens=tokens, finish=finish))

    def choose(self, logits: Tensor) -> int:
        """Samples a token from logits (V,), with the row's own random numbers."""
        if self._random is None:
            self._random = torch.Generator()
            seed = self.question.seed
            self._random.manual_seed(self._random.seed() if seed is None else seed)
        values, ids = (logits.double().cpu() / self.question.temperature).sort(descending=True)
        shares = values.softmax(-1)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= self.question.top_p, 0.0)
        return int(ids[torch.multinomial(shares, 1, generator=self._random)])

    def _finish_of(self, token: int) -> Finish | None:
        if token in self._ends:
            return "stop"
        return "length" if len(self.ids) >= self.limit else None

    def _say(self, answer: Answer) -> None:
        self.answer = answer
        self.listener(answer)


def held_back(text: str, stops: tuple[str, ...]) -> str:
    """The part of an unfinished text that no further token can change.

    A character may be spread over several tokens, and a stop string too; neither is shown in part.

    >>> held_back("One. Two", ("Two!", "."))
    'One. '
    """
    text = text.rstrip("\ufffd")
    begun = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return text[: len(text) - max(begun, default=0)]


def _nobody(answer: Answer | Exception) -> None:
    """The listener of a row that was not submitted yet."""
