"""Renders a tokenizer's chat template in a process of its own, within limits of time and memory.

A chat template is a program that comes with a tokenizer. It may loop for ever, or make gigabytes by one expression
that cannot be interrupted, so that nothing less than a process can be stopped in every case.
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
"""How long all renderings may take together."""

MEMORY = 2**30
"""Bytes that they may take beside what the process had."""

LONGEST = 1_000_000
"""Characters that a few short messages may become."""


class Rendering(NamedTuple):
    """A dialogue to render.

    Attributes:
        messages: as `apply_chat_template` takes them.
        generate: whether the words follow where an answer begins.
        moment: the date and time that a template gets which asks for it.
    """

    messages: list[dict[str, str]]
    generate: bool
    moment: datetime


def render(backend: Any, renderings: Sequence[Rendering]) -> list[str]:
    """The texts of dialogues, in their order.

    Args:
        backend: a tokenizer of transformers with a chat template.
        renderings: the dialogues.

    Raises:
        ValueError: the template raises an error, takes too long, or makes too much.
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
    except (EOFError, OSError):  # it was ended by its alarm, or by the system
        found = None
    finally:
        ours.close()
        process.kill()
        process.join()
    if found is None:
        raise ValueError(
            f"the chat template of {name!r} did not come to its end within {SECONDS} s; it may loop for ever; write "
            "a `template` instead"
        )
    kind, value = found
    if kind == "error":
        raise ValueError(f"the chat template of {name!r} cannot be used: {value}; write a `template` instead")
    texts: list[str] = value
    return texts


def _work(connection: Connection, backend: Any, renderings: Sequence[Rendering]) -> None:
    """Renders in the child process and sends the texts, or what is wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process also within one long expression
        signal.alarm(SECONDS)
    _limit_memory()
    try:
        texts = []
        for one in renderings:
            texts.append(_written(backend, one))
            if len(texts[-1]) > LONGEST:
                raise ValueError(f"it makes {len(texts[-1]):,} characters of a few words")
        connection.send(("texts", texts))
    except MemoryError:
        connection.send(("error", f"it takes more than {MEMORY / 2**30:.0f} GiB of memory"))
    except BaseException as error:  # whatever jinja and the template itself raise
        connection.send(("error", f"it raised {type(error).__name__}: {str(error)[:300]}"))


def _written(backend: Any, one: Rendering) -> str:
    """The text of one dialogue; without a train of thought, where the template knows how to leave that out."""
    # A template asks for the time by `strftime_now`, which cannot be given to transformers from outside; this process
    # renders nothing else.
    utilities: Any = chat_template_utils
    utilities.datetime = SimpleNamespace(now=lambda: one.moment)
    return str(
        backend.apply_chat_template(
            one.messages, tokenize=False, add_generation_prompt=one.generate, enable_thinking=False
        )
    )


def _limit_memory() -> None:
    """Bounds the address space, where the system can."""
    if resource is None:
        return
    with suppress(ValueError, OSError):
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
