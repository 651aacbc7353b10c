"""Where the media of a sample stand in its texts: at placeholders such as `<image>` in the questions."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from octavius.instruction.sample import Sample

Parts: TypeAlias = list[str]
"""A question split at its placeholders: texts at even indices, and between them the modalities."""


def placeholder(modality: str) -> str:
    """The placeholder of a modality."""
    return f"<{modality}>"


def split(text: str, modalities: Collection[str]) -> Parts:
    """Splits a text at the placeholders of the given modalities.

    Placeholders at its beginning have no space around them: the prompt template writes what stands there.

    >>> split("<image> <image>Which is larger, <image> or this?", ["image"])
    ['', 'image', '', 'image', 'Which is larger, ', 'image', ' or this?']
    >>> split("Which is <image>?", [])
    ['Which is <image>?']
    """
    if not modalities:
        return [text]
    names = "|".join(re.escape(name) for name in sorted(modalities))
    parts = re.split(f"<({names})>", text)
    for index in range(0, len(parts) - 1, 2):
        if parts[index].strip():
            break
        parts[index], parts[index + 2] = "", parts[index + 2].lstrip()
    return parts


def words(text: str, modalities: Collection[str]) -> str:
    """A text without the placeholders of the given modalities: what the gate reads.

    >>> words("<image>Which is larger, <image> or this?", ["image"])
    'Which is larger, or this?'
    """
    if not modalities:
        return text
    return " ".join(part.strip() for part in split(text, modalities)[::2] if part.strip())


def modalities_of(sample: Sample) -> list[str]:
    """The modalities whose media stand at placeholders in the sample's questions."""
    return sorted({modality for modality, _ in sample.placed})


def turns(sample: Sample, question: str) -> list[Parts]:
    """The questions of a sample, oldest first, split at the placeholders of its placed media.

    Args:
        sample: the sample.
        question: its last question.

    Raises:
        ValueError: the placeholders differ from the media that are to stand there, or an answer has one.
    """
    modalities = modalities_of(sample)
    found = [split(text, modalities) for text in (*(asked for asked, _ in sample.history), question)]
    if not modalities:
        return found
    shown = [name for parts in found for name in parts[1::2]]
    expected = [modality for modality, _ in sample.placed]
    if shown != expected:
        raise ValueError(
            f"sample {sample.id}: its questions have {_listed(shown)}, and its placed media are {_listed(expected)}; "
            "each medium needs a placeholder of its own, in the same order"
        )
    if any(len(split(answer, modalities)) > 1 for _, answer in sample.history):
        raise ValueError(f"sample {sample.id}: an answer has a placeholder; media stand in questions alone")
    return found


def _listed(modalities: Sequence[str]) -> str:
    """The placeholders of some modalities, for messages."""
    return ", ".join(map(placeholder, modalities)) or "no placeholder"


def counted(questions: Iterable[str], modality: str) -> int:
    """How many placeholders of a modality there are in some questions."""
    return sum(question.count(placeholder(modality)) for question in questions)
