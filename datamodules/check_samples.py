"""A look at every sample of a configuration before it is trained on: what could end a run, or be left out of it.

Annotation files are read item by item, each medium is opened once, as training opens it, and each sample's prompt is
made. What is found is what `bad: error` would stop at, at any hour, and what `bad: skip` would leave out.
"""

import argparse
import json
import os
import random
import sys
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.base import InstructionDataModule
from datamodules.benchmarks.base import KEPT, LeftOutWarning
from datamodules.check_data import LOADERS
from datamodules.instances import find_task
from datamodules.mixed import MixedInstructions
from datamodules.sources import Source, SourceInstructions
from octavius.files import write_text
from octavius.instruction.batch import Processor
from octavius.instruction.media import Loader
from octavius.instruction.sample import Media, References, Sample
from octavius.processes import serve

TOLD = 10
"""Problems of a kind that are shown; a file of all of them can be asked for."""

CHUNK = 32
"""Samples or media that a process looks at before it tells what it found."""

KINDS = {
    "source": "sources that cannot be read at all",
    "annotation": "items of annotation files",
    "prompt": "samples of which no prompt can be made",
    "medium": "pictures, clouds or features that cannot be opened",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: a key of `KINDS`.
        file: where it is.
        place: which item of the file, or which sample.
        reason: what is wrong.
    """

    kind: str
    file: str
    place: str
    reason: str


@dataclass(frozen=True)
class Task:
    """Something to look at: a sample's prompt, or a medium.

    Attributes:
        source: the title of the sample's source.
        sample: whose prompt is made.
        answered: whether the prompt holds the answer, as in training.
        modality: of the medium.
        medium: what is to be opened; None for a prompt.
    """

    source: str
    sample: Sample
    answered: bool = False
    modality: str = ""
    medium: Media | None = None


class Looks(Dataset[list[Problem]]):
    """Looks at one task at a time, in the data workers."""

    def __init__(self, tasks: Sequence[Task], processor: Processor | None) -> None:
        """Takes the tasks, and what makes prompts and opens media where the model's own are at hand."""
        self.tasks, self.processor = tasks, processor
        self.loaders: dict[str, Loader] = {**LOADERS, **(processor.loaders if processor else {})}

    def __len__(self) -> int:
        """How many tasks."""
        return len(self.tasks)

    def __getitem__(self, index: int) -> list[Problem]:
        """What is wrong with one; most often nothing."""
        task = self.tasks[index]
        place = f"sample {task.sample.id} of {task.source}"
        if task.medium is None:
            file, kind = "", "prompt"
        else:
            file, kind = clean(str(task.medium.path)) if task.medium.path else "", "medium"
        try:
            if task.medium is None:
                self._prompt(task)
            elif task.modality in self.loaders:
                self.loaders[task.modality](task.medium)
        except Exception as error:  # a fault of a decoder is one more thing to tell
            return [Problem(kind, file, place, str(error) or type(error).__name__)]
        return []

    def _prompt(self, task: Task) -> None:
        """Makes the prompt with the longest of the texts that may be drawn as its answer."""
        sample, rng = task.sample, random.Random(0)
        if isinstance(sample.gold, References) and sample.gold.texts:
            longest = max(sample.gold.texts, key=len)
            sample = replace(sample, gold=replace(sample.gold, texts=(longest,)))
        made = find_task(sample.task)
        question, answer = made.question(sample, rng), made.answer(sample, rng)
        if self.processor is not None:
            self.processor.prompts.build(sample, question, answer if task.answered else None)


def options_parser() -> argparse.ArgumentParser:
    """The options of `check-data --config` that no other command has."""
    made = argparse.ArgumentParser(
        prog="octavius check-data",
        description="Looks at every sample of a configuration: files are opened, prompts are made.",
        epilog="Any other option is one of fit: --config, --data.init_args.root ... The exit status is 2 where "
        "something is wrong. Without --config see --data-root.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    made.add_argument("--limit", type=int, help="samples of each source, spread evenly (default: all)")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: the CPUs)")
    made.add_argument("--out", help="a file for all that is found, a line of JSON each")
    return made


def check_samples(
    data: L.LightningDataModule, processor: Processor | None, options: argparse.Namespace
) -> None:
    """Looks at all of a data module's samples and lists what is wrong.

    Args:
        data: of the configuration.
        processor: makes the model's prompts; None where it is not at hand, and lengths are not checked.
        options: as `options_parser` gives them.

    Raises:
        ValueError: the data are not read from annotation files.
        SystemExit: something is wrong; the status is 2.
    """
    if options.jobs < 1 or (options.limit is not None and options.limit < 1):
        raise ValueError("--jobs and --limit should be at least 1")
    modules = parts(data)
    data.prepare_data()
    problems: list[Problem] = []
    tasks: list[Task] = []
    known = 0
    for module in modules:
        for source, answered in sources_of(module):
            samples, found, blemishes = read_source(module, source)
            known += blemishes
            problems += found
            print(f"{source.title}, split {source.split}: {len(samples):,} samples", flush=True)
            tasks += tasks_of(source.title, spread(samples, options.limit), answered)
    problems += look(once(tasks), processor, options.jobs)
    tell(problems, known, options.out)


def parts(data: L.LightningDataModule) -> list[SourceInstructions]:
    """The data modules with sources that a data module is, or is made of."""
    if isinstance(data, SourceInstructions):
        return [data]
    if isinstance(data, MixedInstructions):
        return [one for part in (data.images, data.clouds) for one in parts(part)]
    kind = "no instruction data" if not isinstance(data, InstructionDataModule) else "data without sources"
    raise ValueError(
        f"check-data reads configurations of instruction data, found {kind}: {type(data).__name__}"
    )


def sources_of(module: SourceInstructions) -> Iterator[tuple[Source, bool]]:
    """All sources, each set of samples once, and whether it is trained on."""
    seen = set[Hashable]()
    for source in (*module.train, *module.validate, *module.test):
        key = (source.benchmark, source.split, source.folder, source.limit)
        if key not in seen:
            seen.add(key)
            yield source, source in module.train


def read_source(module: SourceInstructions, source: Source) -> tuple[list[Sample], list[Problem], int]:
    """The samples of a source, what is wrong with the others, and how many known blemishes there are."""
    module.bad = "skip"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            samples = module.samples(source)
        except (ValueError, OSError) as error:
            return [], [Problem("source", str(module.root / source.folder), source.title, str(error))], 0
    problems, known = [], 0
    for item in caught:
        if isinstance(item.message, LeftOutWarning):
            for reason in item.message.reasons:
                known += reason.known
                if not reason.known:
                    problems.append(Problem("annotation", reason.source, reason.where, reason.what))
    return samples, problems, known


def spread(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most so many samples, at even distances."""
    count = len(samples) if limit is None else min(limit, len(samples))
    return [samples[place * len(samples) // count] for place in range(count)]


def tasks_of(title: str, samples: Sequence[Sample], answered: bool) -> Iterator[Task]:
    """What is to be looked at of some samples."""
    for sample in samples:
        yield Task(title, sample, answered)
        for modality, medium in sample.media.items():
            # All objects of a scene lie in one file, which is opened as a whole.
            whole = replace(medium, region=None, objects=None) if medium.path else medium
            yield Task(title, sample, answered, modality, whole)


def once(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, each file once."""
    found: dict[Hashable, Task] = {}
    for number, task in enumerate(tasks):
        medium = task.medium
        file = (task.modality, medium.path, medium.pose) if medium is not None and medium.path else number
        found.setdefault(file, task)
    return list(found.values())


def look(tasks: Sequence[Task], processor: Processor | None, jobs: int) -> list[Problem]:
    """Looks at all tasks in several processes, with a bar; after Ctrl-C gives what was found so far."""
    loader: DataLoader[Any] = DataLoader(
        Looks(tasks, processor),
        CHUNK,
        num_workers=jobs if jobs > 1 else 0,
        collate_fn=_flat,
        worker_init_fn=serve,
    )
    problems: list[Problem] = []
    try:
        with tqdm(total=len(tasks), desc="samples and media", disable=None) as progress:
            for part in loader:
                problems += part
                progress.update(min(CHUNK, len(tasks) - progress.n))
    except KeyboardInterrupt:
        print(f"stopped; of {len(tasks):,} samples and media not all were looked at", file=sys.stderr)
        problems.append(Problem("source", "", "check-data", "it was stopped before its end"))
    return problems


def _flat(chunk: list[list[Problem]]) -> list[Problem]:
    return [problem for part in chunk for problem in part]


def tell(problems: Sequence[Problem], known: int, out: str | None) -> None:
    """Prints what is wrong, by kind, and writes all of it where a file is named."""
    if out is not None:
        write_text(Path(out), "".join(json.dumps(asdict(problem)) + "\n" for problem in problems))
    counts = Counter(problem.kind for problem in problems)
    for kind, what in KINDS.items():
        some = [problem for problem in problems if problem.kind == kind]
        if some:
            print(f"\n{counts[kind]:,} {what}{' or more' if counts[kind] >= KEPT else ''}")
        for problem in some[:TOLD]:
            # Most messages name the file themselves.
            file = problem.file if problem.file and problem.file not in problem.reason else ""
            print(clean(f"    {', '.join(part for part in (file, problem.place) if part)}: {problem.reason}"))
        if len(some) > TOLD:
            print("    ..." + ("" if out else " (--out FILE writes all of them)"))
    if known:
        print(f"\n{known:,} items have blemishes that official files are known to have; they are left out")
    print(f"\n{len(problems):,} problems" if problems else "\nnothing is wrong", flush=True)
    if problems:
        raise SystemExit(2)


def clean(line: str) -> str:
    """A line that any terminal can show: what is no text is spelt in escapes."""
    return line.encode("utf-8", "backslashreplace").decode()
