"""ScanQA's questions about ScanNet's scans, with all accepted answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.benchmarks.answers import Asked, Submission, records
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, need
from datamodules.benchmarks.clouds import scans
from datamodules.benchmarks.clouds.scans import Scans
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import identity, plain_label, shown, take, take_text, texts
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
"""First words of each kind of question; the first kind that matches applies."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per question about a scan, with all accepted answers as references."""
    return [replace(sample, gold=_bare(sample.gold)) for sample in read_reasoned(root, split, bad)]


def read_reasoned(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per question about a scan; its group is the kind of question (`kind_of`).

    In training the answer is preceded by a reason: the names of the objects that the annotators marked as the
    location of the answer, if any. Scores compare the answer alone. The annotation files of the scan's objects are
    optional; if they exist, the medium has the boxes of the objects.
    """
    file = annotations(root, split)
    folders, items = Scans(root, LAYOUT), BadItems(bad, file)
    content = load_json(file, list)
    if content and not any(isinstance(record, dict) and "answers" in record for record in content):
        raise ValueError(
            f"{file} holds no 'answers': those of ScanQA's test splits are not published; take the split val"
        )
    samples = []
    for index, record in enumerate(content):
        with items.guard(f"item {index}"):
            scene = take_text(record, "scene_id")
            scan = folders.scan(scene, objects=folders.annotated(scene))
            question = take_text(record, "question")
            answers = tuple(dict.fromkeys(texts(record, "answers")))  # some are listed twice
            samples.append(
                Sample(
                    take_text(record, "question_id"),
                    "vqa3d",
                    "scanqa",
                    {"cloud": scan.cloud},
                    question,
                    References(answers, scan.name, reason_of(_names(record), answers[0])),
                    group=kind_of(question),
                )
            )
    items.report()
    return samples


def read_answers(path: Path, asked: Asked) -> Submission:  # noqa: ARG001
    """ScanQA's `[{"question_id": .., "answer_top10": ["..", ..]}, ..]`; the first answer counts."""
    found = Submission()
    for where, record in records(path):
        try:
            answers = take(record, "answer_top10", list)
            first = answers[0] if answers else ""
            if not isinstance(first, str):
                raise BadItemError(f"'answer_top10' should be texts, found {shown(answers)}")
            found.add(identity(record.get("question_id"), "'question_id'"), first)
        except BadItemError as error:
            raise BadItemError(f"{where}: {error}") from None
    return found


def annotations(root: Path, split: str) -> Path:
    """The file of a split's questions."""
    name = f"ScanQA_v1.0_{split}.json"
    return need(root, LAYOUT, name, f"qa/{name}")


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


def reason_of(names: Sequence[str], answer: str) -> str:
    """The names of the question's objects followed by the answer; empty if that adds nothing to the answer.

    >>> reason_of(["chair", "chair"], "2")
    'chair, chair 2'
    >>> reason_of(["chair"], "red chair")
    ''
    """
    if answer.casefold() in ("yes", "no") or all(name in answer for name in names):
        return ""
    return f"{', '.join(names)} {answer}"


def _bare(gold: Any) -> References:
    return replace(gold, reason="")


def _names(record: object) -> list[str]:
    """The names of a question's objects; empty if the file has none."""
    if not isinstance(record, dict) or "object_names" not in record:
        return []
    return [plain_label(name) for name in texts(record, "object_names", least=0)]
