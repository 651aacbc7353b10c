"""ScienceQA's problems with an image: multiple-choice questions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.benchmarks.answers import Asked, Submission
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import full_text, optional_text, shown, take, take_text, texts, whole
from octavius.instruction.sample import Choice, Media, Sample
from octavius.suggestions import nearest

LAYOUT = """\
  <root>/problems.json                             problem id to problem
  <root>/pid_splits.json                           split to problem ids
  <root>/images/<split>/<problem id>/image.png     or without the folder `images`
"""

SPLITS = ("train", "val", "test")


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per problem of the split that has an image; the answer is the letter of the right option."""
    return [replace(sample, gold=_bare(sample.gold)) for sample in read_reasoned(root, split, bad)]


def read_reasoned(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per problem of the split that has an image; in training, the solution precedes the answer.

    The hint, if any, is appended to the question as context. The options are not part of the question, as the task
    appends them. A sample's group is the problem's topic.
    """
    problems_file = need(root, LAYOUT, "problems.json")
    splits_file = need(root, LAYOUT, "pid_splits.json")
    images = need(root, LAYOUT, "images/", *(f"{name}/" for name in SPLITS))
    folder = DataFolder(images if images.name == "images" else root)
    problems = load_json(problems_file, dict)
    splits = load_json(splits_file, dict)
    if not isinstance(splits.get(split), list):
        raise ValueError(
            f"{splits_file} has no split '{split}'{nearest(split, splits)}; it has {shown(sorted(splits))}"
        )
    items = BadItems(bad, problems_file)
    samples = []
    for pid in splits[split]:
        with items.guard(f"problem {shown(pid)}"):
            if not isinstance(pid, str) or pid not in problems:
                raise BadItemError(f"it is listed in {splits_file.name}, but missing in {problems_file.name}")
            if take(problems, full_text(pid, "its id"), dict).get("image") is not None:
                samples.append(_sample(pid, problems[pid], split, folder))
    items.report()
    return samples


def read_answers(path: Path, asked: Asked) -> Submission:
    """ScienceQA's `{"results": {"<problem id>": <index of the option>}, ..}`; -1 is no option."""
    content = load_json(path, dict)
    found = Submission(unscored=_without_image(asked))
    for key, index in take(content, "results", dict).items():
        sample = asked.samples.get(key)
        gold = None if sample is None else sample.gold
        most = len(gold.options) - 1 if isinstance(gold, Choice) else 25
        option = whole(index, f"the result of {shown(key)}, the index of an option or -1,", -1, most)
        found.add(key, f"The answer is {chr(ord('A') + option)}." if option >= 0 else "")
    return found


def _without_image(asked: Asked) -> set[str]:
    splits = load_json(asked.folder / "pid_splits.json", dict)
    return {str(key) for key in splits[asked.split]} - asked.samples.keys()


def _bare(gold: Any) -> Choice:
    return replace(gold, reason="")


def _sample(pid: str, problem: dict[str, object], split: str, folder: DataFolder) -> Sample:
    # Splits such as `minitest` and `trainval` have no image folder; a problem names the split whose folder it is in.
    image_split = take(problem, "split", str) if "split" in problem else split
    path = folder.file(f"{image_split}/{pid}/{take_text(problem, 'image')}")
    question = take_text(problem, "question")
    if hint := optional_text(problem, "hint"):
        question = f"{question}\nContext: {hint}"
    media = {"image": Media(path=path)}
    topic = optional_text(problem, "topic")
    return Sample(pid, "vqa", "scienceqa", media, question, _choice(problem), group=topic)


def _choice(problem: dict[str, object]) -> Choice:
    options = texts(problem, "choices", least=2)
    answer = whole(take(problem, "answer", int), "'answer', the index of a choice,", 0, len(options) - 1)
    return Choice(options, answer, optional_text(problem, "solution"))
