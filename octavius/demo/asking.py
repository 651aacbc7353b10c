"""A loaded checkpoint as the page asks it: turns of a conversation, and messages instead of errors."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from octavius.boxes import Box3D
from octavius.instruction.sample import LabelledBox, Media, References, Sample
from octavius.serve.app import engine_error
from octavius.serve.engine import Engine
from octavius.serve.rows import Answer, Question
from octavius.tasks import TASKS


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Attributes:
        question: the question.
        media: modality to medium.
        answer: the answer, whole or so far.
        experts: who was made to answer instead of the gate's choice, in words; empty for the gate.
    """

    question: str
    media: Mapping[str, Media]
    answer: Answer = field(default_factory=Answer)
    experts: str = ""

    @property
    def sample(self) -> Sample:
        """The question as a sample, for the tasks that parse its answer."""
        return Sample("question", "conversation", "demo", self.media, self.question, References(("",)))

    @property
    def boxes(self) -> tuple[LabelledBox, ...]:
        """The boxes of the picture that the answer names."""
        return TASKS["detection"].parse(self.answer.text, self.sample) if "image" in self.media else ()

    @property
    def boxes3d(self) -> tuple[tuple[str, Box3D], ...]:
        """The boxes of the cloud that the answer names, with what it says of each."""
        if "cloud" not in self.media:
            return ()
        found = TASKS["dense_captioning3d"].parse(self.answer.text, self.sample)
        return tuple((item.texts[0], item.box) for item in found)


@dataclass(frozen=True)
class Asked:
    """A checkpoint that is being asked.

    Attributes:
        name: its name on the page.
        engine: answers its questions.
        max_new_tokens: maximum length of an answer.
    """

    name: str
    engine: Engine
    max_new_tokens: int = 256

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model takes."""
        return self.engine.modalities

    @cached_property
    def experts(self) -> int:
        """Number of experts whose weights can be forced; 0 if none can."""
        return 0 if self.unforced else self._count

    @cached_property
    def unforced(self) -> str:
        """Why no weights can be forced; empty if they can."""
        try:
            self.engine.module.model.check_forced((1.0,) * self._count)
        except ValueError as error:
            return str(error)
        return ""

    @property
    def _count(self) -> int:
        gate = self.engine.module.model.gate
        return 1 if gate is None else gate.counts[0]

    def answer(
        self,
        turn: Turn,
        weights: Sequence[float] | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int | None = None,
    ) -> Iterator[Turn]:
        """The turn with each state of its answer; closing the iterator cancels it.

        Args:
            turn: the question.
            weights: weights of the experts instead of the gate's.
            history: earlier questions and answers, which become part of the prompt.
            max_new_tokens: maximum length; None for the page's.

        Raises:
            ValueError: the question cannot be asked.
        """
        question = Question(
            turn.question,
            tuple(history),
            turn.media,
            None if weights is None else tuple(weights),
            max_new_tokens or self.max_new_tokens,
        )
        for answer in self.engine.stream(question):
            yield replace(turn, answer=answer)


def earlier(turns: Sequence[Turn], media: Mapping[str, Media]) -> list[tuple[str, str]]:
    """The questions and answers since these media were chosen, oldest first."""
    found: list[tuple[str, str]] = []
    for turn in reversed(turns):
        if turn.media != media:
            break
        if turn.answer.text:
            found.insert(0, (turn.question, turn.answer.text))
    return found


def explain(error: Exception, media: Mapping[str, Media]) -> str:
    """What a visitor is told of an error: what to do about it, with names of files instead of paths.

    A bug is printed on the terminal with its traceback.
    """
    text = str(engine_error(error))
    if not isinstance(error, ValueError) and text != str(error):
        traceback.print_exception(error)
    for item in media.values():
        if item.path is not None:
            text = text.replace(str(item.path), item.path.name)
    return text
