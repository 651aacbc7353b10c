"""Renders a tokenizer's chat template in a separate process, with limits on time and memory.

A chat template is a program that comes with a tokenizer. It may loop forever, or allocate gigabytes in one
expression that cannot be interrupted; only a process can be stopped in every case.
"""

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, NamedTuple

from transformers.utils import chat_template_utils

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

SECONDS = 30
"""Time limit of all renderings together."""

MEMORY = 2**30
"""Bytes that they may allocate in addition to what the process had."""

LONGEST = 1_000_000
"""Largest number of characters that a few short messages may be rendered to."""


class Rendering(NamedTuple):
    """A dialogue to render.

    Attributes:
        messages: as for `apply_chat_template`.
        generate: whether to append the generation prompt.
        moment: date and time for templates that ask for it.
    """

    messages: list[dict[str, Any]]
    generate: bool
    moment: datetime


def render(backend: Any, renderings: Sequence[Rendering]) -> list[str]:
    """Renders dialogues, in order.

    Args:
        backend: a transformers tokenizer with a chat template.
        renderings: the dialogues.

    Raises:
        ValueError: the template raises an error, or exceeds a limit.
    """
    name = backend.name_or_path
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, backend, renderings), daemon=True)
    process.start()
    theirs.close()
    found: tuple[str, Any] | None = None
    try:
        if ours.poll(SECONDS + 5):
            found = ours.recv()
    except (EOFError, OSError):  # ended by its alarm, or by the system
        found = None
    finally:
        ours.close()
        process.kill()
        process.join()
    if found is None:
        raise ValueError(
            f"the chat template of {name!r} was not rendered within {SECONDS} s, it may loop forever; write "
            "a `template` instead"
        )
    kind, value = found
    if kind == "error":
        raise ValueError(f"the chat template of {name!r} cannot be used: {value}; write a `template` instead")
    texts: list[str] = value
    return texts


def _work(connection: Connection, backend: Any, renderings: Sequence[Rendering]) -> None:
    """Runs in the child process: renders, and sends the texts or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent kills it
    if hasattr(signal, "SIGALRM"):
        # the default action ends the process even within one long expression
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
    _limit_memory()
    try:
        texts = []
        for one in renderings:
            texts.append(_written(backend, one))
            if len(texts[-1]) > LONGEST:
                raise ValueError(f"it renders a few words to {len(texts[-1]):,} characters")
        connection.send(("texts", texts))
    except MemoryError:
        connection.send(("error", f"it takes more than {MEMORY / 2**30:.0f} GiB of memory"))
    except BaseException as error:  # whatever jinja and the template itself raise
        connection.send(("error", f"it raised {type(error).__name__}: {str(error)[:300]}"))


def _written(backend: Any, one: Rendering) -> str:
    """The text of one dialogue, with thinking disabled if the template supports that."""
    # Templates get the time from `strftime_now`, which transformers does not let callers replace. Patching
    # its module is safe here: this process does nothing else.
    utilities: Any = chat_template_utils
    utilities.datetime = SimpleNamespace(now=lambda: one.moment)
    return str(
        backend.apply_chat_template(
            one.messages, tokenize=False, add_generation_prompt=one.generate, enable_thinking=False
        )
    )


def _limit_memory() -> None:
    """Limits the address space, if the system supports it."""
    if resource is None:
        return
    with suppress(ValueError, OSError):
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
