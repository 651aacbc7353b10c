"""ScienceQA's problems with an image come in; multiple-choice samples go out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.benchmarks.base import (
    BadItemError,
    BadItems,
    BadPolicy,
    DataFolder,
    load_json,
    need,
    take,
    take_text,
)
from octavius.instruction.sample import Choice, Media, Sample

LAYOUT = """\
  <root>/problems.json                             problem id to problem
  <root>/pid_splits.json                           split to problem ids
  <root>/images/<split>/<problem id>/image.png     or without the folder `images`
"""

SPLITS = ("train", "val", "test")


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample for every problem of the split that has an image, answered by the right option alone."""
    return [replace(sample, gold=_bare(sample.gold)) for sample in read_reasoned(root, split, bad)]


def read_reasoned(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample for every problem of the split that has an image.

    The question ends with the hint as its context, where there is one; the options are in the gold alone,
    because writing them out is the task's work. A sample's group is the problem's topic, and its answer
    begins with the problem's solution, where there is one.
    """
    problems_file = need(root, LAYOUT, "problems.json")
    splits_file = need(root, LAYOUT, "pid_splits.json")
    images = need(root, LAYOUT, "images/", *(f"{name}/" for name in SPLITS))
    folder = DataFolder(images if images.name == "images" else root)
    problems = load_json(problems_file, dict)
    splits = load_json(splits_file, dict)
    if not isinstance(splits.get(split), list):
        raise ValueError(f"{splits_file} has no split '{split}'; it has {', '.join(sorted(splits))}")
    items = BadItems(bad, problems_file)
    samples = []
    for pid in splits[split]:
        with items.guard(f"problem {pid!r:.40}"):
            if not isinstance(pid, str) or pid not in problems:
                raise BadItemError(f"listed in {splits_file.name}, but missing here")
            if take(problems, pid, dict).get("image"):
                samples.append(_sample(pid, problems[pid], split, folder))
    items.report()
    return samples


def _bare(gold: Any) -> Choice:
    return replace(gold, reason="")


def _sample(pid: str, problem: dict[str, object], split: str, folder: DataFolder) -> Sample:
    # Lists such as `minitest` and `trainval` draw from the three folders; the problem knows its own.
    home = take(problem, "split", str) if "split" in problem else split
    path = folder.file(f"{home}/{pid}/{take(problem, 'image', str)}")
    question = take_text(problem, "question")
    hint = take(problem, "hint", str).strip() if problem.get("hint") else ""
    if hint:
        question = f"{question}\nContext: {hint}"
    media = {"image": Media(path=path)}
    topic = take(problem, "topic", str) if problem.get("topic") else ""
    return Sample(pid, "vqa", "scienceqa", media, question, _choice(problem), group=topic)


def _choice(problem: dict[str, object]) -> Choice:
    options = []
    for option in take(problem, "choices", list):
        if not isinstance(option, str) or not option.strip():
            raise BadItemError(f"every choice should be a text, found {option!r:.60}")
        options.append(option.strip())
    if len(options) < 2:
        raise BadItemError(f"a question needs at least 2 choices, found {len(options)}")
    answer = take(problem, "answer", int)
    if not 0 <= answer < len(options):
        last = len(options) - 1
        raise BadItemError(f"'answer' should be the index of a choice, 0 to {last}, found {answer}")
    reason = take(problem, "solution", str).strip() if problem.get("solution") else ""
    return Choice(tuple(options), answer, reason)
