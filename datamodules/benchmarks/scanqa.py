"""ScanQA's questions about ScanNet's scans come in; samples with all accepted answers go out."""

from pathlib import Path

from datamodules.benchmarks import scans
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, load_json, need, take, take_text
from datamodules.benchmarks.scans import Scans
from octavius.instruction.sample import References, Sample

LAYOUT = f"""\
  <root>/ScanQA_v1.0_<split>.json              or in <root>/qa; <split> is train or val
{scans.LAYOUT}"""

KINDS = {
    "number": ("how many",),
    "colour": tuple(
        f"{words} {colour}" for words in ("what", "which", "what is the") for colour in ("color", "colour")
    ),
    "place": ("where",),
    "yes or no": ("is", "are", "does", "do", "did", "can", "was", "were", "has", "have"),
    "object": ("what", "which"),
}
"""Kinds of question by their first words; the first kind that fits is taken."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample for every question, which is about the whole scan. Its group is the kind of the question.

    Questions need no objects; where the files that tell them are there, the scan brings their boxes.
    """
    name = f"ScanQA_v1.0_{split}.json"
    file = need(root, LAYOUT, name, f"qa/{name}")
    folders, items = Scans(root, LAYOUT), BadItems(bad, file)
    records = load_json(file, list)
    if records and not any(isinstance(record, dict) and "answers" in record for record in records):
        raise ValueError(
            f"{file} holds no 'answers': those of ScanQA's test splits are not published; take the split val"
        )
    samples = []
    for place, record in enumerate(records):
        with items.guard(f"item {place}"):
            scene = take_text(record, "scene_id")
            scan = folders.scan(scene, objects=folders.annotated(scene))
            question = take_text(record, "question")
            samples.append(
                Sample(
                    take_text(record, "question_id"),
                    "vqa3d",
                    "scanqa",
                    {"cloud": scan.cloud},
                    question,
                    References(_answers(take(record, "answers", list)), scan.name),
                    group=kind_of(question),
                )
            )
    items.report()
    return samples


def kind_of(question: str) -> str:
    """The kind of a question, by its first words.

    >>> kind_of("What color is the chair?")
    'colour'
    """
    words = f"{question.casefold()} "
    for kind, openings in KINDS.items():
        if any(words.startswith(f"{opening} ") for opening in openings):
            return kind
    return "other"


def _answers(texts: list[object]) -> tuple[str, ...]:
    """The accepted answers, each once."""
    answers = []
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise BadItemError(f"every answer should be a text, found {text!r:.60}")
        answers.append(text.strip())
    if not answers:
        raise BadItemError("'answers' is empty, a question needs at least one")
    return tuple(dict.fromkeys(answers))
