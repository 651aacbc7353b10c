"""What the HTTP application needs of the program that answers, and how a question becomes a prompt for it."""

from collections.abc import Sequence
from typing import Protocol

from octavius.instruction.prompt import Prompt, PromptBuilder, TooLongError
from octavius.instruction.sample import References, Sample
from octavius.serve.rows import Listener, Question, Row

LONGEST_TOKEN = 16
"""Characters of text per token of the prompt that are read at all, before anything is tokenized."""


class ClosedError(RuntimeError):
    """The server is shutting down."""


class Backend(Protocol):
    """Answers questions, several at once: `octavius.serve.engine.Engine`, or a client of another server."""

    batch_size: int
    counts: dict[str, int]

    @property
    def experts(self) -> int | Sequence[int]:
        """Number of experts, or that of each layer; 0 without any."""

    @property
    def modalities(self) -> Sequence[str]:
        """Names of the modalities that questions may come with."""

    @property
    def alive(self) -> bool:
        """Whether questions are taken."""

    @property
    def running(self) -> int:
        """Number of questions that are being answered."""

    @property
    def waiting(self) -> int:
        """Number of questions that wait for a place."""

    def prepare(self, question: Question) -> Row:
        """Builds the prompt and loads the media, in the caller's thread.

        Raises:
            ValueError: the question cannot be answered by this model.
        """

    def submit(self, row: Row, listener: Listener) -> Row:
        """Queues a prepared row, once; the listener is called on another thread.

        Raises:
            ClosedError: the server is shutting down.
        """

    def close(self, grace: float = 0.0) -> None:
        """Takes no more questions; those that run end after `grace` seconds."""

    def join(self, timeout: float | None = None) -> None:
        """Waits for the end of a closed backend."""


def closed() -> ClosedError:
    """What a question gets from a server that is shutting down."""
    return ClosedError("the server is shutting down; ask again when it is back")


def prompt_of(prompts: PromptBuilder, question: Question) -> tuple[Sample, Prompt]:
    """Builds the prompt of a question.

    Raises:
        ValueError: the question is empty, or the conversation is too long.
    """
    longest = prompts.max_tokens
    size = len(question.text) + sum(len(text) for turn in question.history for text in turn)
    if size > LONGEST_TOKEN * longest:
        raise ValueError(
            f"the conversation has {size:,} characters, more than the {longest:,} tokens that this model takes"
        )
    sample = Sample(
        "request",
        "conversation",
        "chat",
        question.media,
        question.text,
        References(("",)),
        question.history,
        placed=question.placed,
    )
    try:
        return sample, prompts.build(sample, question.text, None)
    except TooLongError:
        raise too_long(longest) from None
    except ValueError as error:
        raise ValueError(str(error).removeprefix("sample request: ")) from None


def too_long(longest: int) -> ValueError:
    """The error of a conversation with more than `longest` tokens."""
    return ValueError(
        f"the conversation has more than the {longest:,} tokens that this model takes, its media included"
    )
