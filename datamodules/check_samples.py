"""`octavius check-data --config`: checks every sample of a configuration before training.

Annotation files are read item by item, every medium is opened once as in training, and every prompt is built.
The problems found are those at which `bad: error` would stop a run, and which `bad: skip` would leave out.
"""

import argparse
import json
import os
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.base import InstructionDataModule
from datamodules.benchmarks.base import KEPT, LeftOutWarning
from datamodules.check_data import READERS
from datamodules.examples import find_task
from datamodules.mixed import MixedInstructions
from datamodules.source_instructions import SourceInstructions
from datamodules.sources import Source
from octavius.files import write_text
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Media, References, Sample
from octavius.options import OptionParser
from octavius.processes import init_worker

MAX_PRINTED = 10
"""Maximum number of problems of each kind that are printed; `--out` writes all of them."""

CHUNK = 32
"""Checks per batch of the loader, hence per update of the progress bar."""

KINDS = {
    "source": "sources that cannot be read at all",
    "annotation": "items of annotation files",
    "prompt": "samples whose prompt cannot be built",
    "medium": "media that cannot be opened",
}


@dataclass(frozen=True)
class Problem:
    """One sample, medium or item that cannot be used.

    Attributes:
        kind: a key of `KINDS`.
        file: the file concerned; empty if there is none.
        place: the item of the file, or the sample.
        reason: what is wrong.
    """

    kind: str
    file: str
    place: str
    reason: str


@dataclass(frozen=True)
class Task:
    """One check of a sample: building its prompt, or opening one of its media. Not a task of `octavius.tasks`.

    Attributes:
        source: title of the sample's source.
        sample: the sample.
        answered: whether the prompt includes the answer, as in training.
        modality: modality of the medium.
        medium: the medium to open; None to build the prompt.
    """

    source: str
    sample: Sample
    answered: bool = False
    modality: str = ""
    medium: Media | None = None


class CheckDataset(Dataset[list[Problem]]):
    """Runs one check per index, so that a `DataLoader` distributes the checks over worker processes."""

    def __init__(self, tasks: Sequence[Task], processor: Processor | None) -> None:
        """Uses the model's own prompt builder and media loaders if a processor is given."""
        self.tasks, self.processor = tasks, processor
        self.loaders: dict[str, Callable[[Media], object]] = {
            **READERS,
            **(processor.loaders if processor else {}),
        }

    def __len__(self) -> int:
        """Number of checks."""
        return len(self.tasks)

    def __getitem__(self, index: int) -> list[Problem]:
        """Runs one check; the list of problems is empty or holds one."""
        check = self.tasks[index]
        place = f"sample {check.sample.id} of {check.source}"
        if check.medium is None:
            file, kind = "", "prompt"
        else:
            file, kind = clean(str(check.medium.path)) if check.medium.path else "", "medium"
        try:
            if check.medium is None:
                self._prompt(check)
            elif check.modality in self.loaders:
                self.loaders[check.modality](check.medium)
        except (
            Exception
        ) as error:  # any exception, also one from a bug of a media library, is a problem to report
            return [Problem(kind, file, place, str(error) or type(error).__name__)]
        return []

    def _prompt(self, check: Task) -> None:
        """Builds a sample's prompt with the longest reference text that training may draw as the answer."""
        sample, rng = check.sample, random.Random(0)
        if isinstance(sample.gold, References) and sample.gold.texts:
            longest = max(sample.gold.texts, key=len)
            sample = replace(sample, gold=replace(sample.gold, texts=(longest,)))
        task = find_task(sample.task)
        question, answer = task.question(sample, rng), task.answer(sample, rng)
        if self.processor is not None:
            self.processor.prompts.build(sample, question, answer if check.answered else None)


def options_parser() -> OptionParser:
    """Parser of the options that only `check-data --config` has; the rest is parsed as for `fit`."""
    parser = OptionParser(
        prog="octavius check-data",
        description="Checks every sample of a configuration: opens its files and builds its prompt.",
        epilog="All other options are those of fit: --config, --data.init_args.root ... The exit status is 2 if a "
        "problem is found. For checks without a configuration see --data-root.",
    )
    parser.add_argument("--limit", type=int, help="samples per source, evenly spaced (default: all)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: number of CPUs)"
    )
    parser.add_argument("--out", help="file to which all problems are written, one line of JSON each")
    return parser


def check_samples(
    data: L.LightningDataModule, processor: Processor | None, options: argparse.Namespace
) -> None:
    """Checks all samples of a data module and prints the problems.

    Args:
        data: data module of the configuration.
        processor: the model's processor; None if it is not available, and prompt lengths are then not
            checked.
        options: parsed by `options_parser`.

    Raises:
        ValueError: the data module does not read annotation files, or an option is out of range.
        SystemExit: there are problems; the status is 2.
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
    problems += run_checks(without_repeats(tasks), processor, options.jobs)
    report(problems, known, options.out)


def parts(data: L.LightningDataModule) -> list[SourceInstructions]:
    """The data modules with sources: the given one, or the parts of a mixture.

    Raises:
        ValueError: a data module has no sources.
    """
    if isinstance(data, SourceInstructions):
        return [data]
    if isinstance(data, MixedInstructions):
        return [one for part in data.parts.values() for one in parts(part)]
    kind = "no instruction data" if not isinstance(data, InstructionDataModule) else "data without sources"
    raise ValueError(
        f"check-data reads configurations of instruction data, found {kind}: {type(data).__name__}"
    )


def sources_of(module: SourceInstructions) -> Iterator[tuple[Source, bool]]:
    """The distinct sources of a data module, each with whether it is trained on."""
    seen = set[Hashable]()
    for source in (*module.train, *module.validate, *module.test):
        key = (source.benchmark, source.split, source.folder, source.limit)
        if key not in seen:
            seen.add(key)
            yield source, source in module.train


def read_source(module: SourceInstructions, source: Source) -> tuple[list[Sample], list[Problem], int]:
    """Reads a source; returns its samples, its bad items, and the number of items with known blemishes."""
    module.bad = "skip"  # so that reading does not stop at the first bad item
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
    """At most `limit` samples, evenly spaced."""
    count = len(samples) if limit is None else min(limit, len(samples))
    return [samples[index * len(samples) // count] for index in range(count)]


def tasks_of(title: str, samples: Sequence[Sample], answered: bool) -> Iterator[Task]:
    """The checks of some samples: one per prompt, and one per medium."""
    for sample in samples:
        yield Task(title, sample, answered)
        for modality, medium in sample.all_media:
            # All objects of a scene are in one file, which is opened as a whole.
            whole = replace(medium, region=None, objects=None) if medium.path else medium
            yield Task(title, sample, answered, modality, whole)


def without_repeats(tasks: Sequence[Task]) -> list[Task]:
    """Drops repeated checks of one file; checks of prompts and of media in memory are all kept."""
    found: dict[Hashable, Task] = {}
    for number, check in enumerate(tasks):
        medium = check.medium
        if medium is None or not medium.path:
            found[number] = check
            continue
        key = (check.modality, medium.path, medium.pose)
        before = found.get(key)
        # Prefer a sample with an annotated image size: the loader compares it with the size of the file.
        if before is None or (
            medium.size is not None and before.medium is not None and before.medium.size is None
        ):
            found[key] = check
    return list(found.values())


def run_checks(tasks: Sequence[Task], processor: Processor | None, jobs: int) -> list[Problem]:
    """Runs all checks in worker processes with a progress bar; after Ctrl-C returns the problems found so far."""
    loader: DataLoader[Any] = DataLoader(
        CheckDataset(tasks, processor),
        CHUNK,
        num_workers=jobs if jobs > 1 else 0,
        collate_fn=_flat,
        worker_init_fn=init_worker,
    )
    problems: list[Problem] = []
    try:
        with tqdm(total=len(tasks), desc="samples and media", disable=None) as progress:
            for part in loader:
                problems += part
                progress.update(min(CHUNK, len(tasks) - progress.n))
    except KeyboardInterrupt:
        print(f"stopped before all {len(tasks):,} samples and media were checked", file=sys.stderr)
        problems.append(Problem("source", "", "check-data", "it was stopped before its end"))
    return problems


def _flat(chunk: list[list[Problem]]) -> list[Problem]:
    return [problem for part in chunk for problem in part]


def report(problems: Sequence[Problem], known: int, out: str | None) -> None:
    """Prints the first problems of each kind, and writes all of them to `out` as JSON lines; exits with 2 if any."""
    if out is not None:
        write_text(Path(out), "".join(json.dumps(asdict(problem)) + "\n" for problem in problems))
    counts = Counter(problem.kind for problem in problems)
    for kind, what in KINDS.items():
        some = [problem for problem in problems if problem.kind == kind]
        if some:
            print(f"\n{counts[kind]:,} {what}{' or more' if counts[kind] >= KEPT else ''}")
        for problem in some[:MAX_PRINTED]:
            # Most messages already name the file.
            file = problem.file if problem.file and problem.file not in problem.reason else ""
            print(clean(f"    {', '.join(part for part in (file, problem.place) if part)}: {problem.reason}"))
        if len(some) > MAX_PRINTED:
            print("    ..." + ("" if out else " (--out FILE writes all of them)"))
    if known:
        print(f"\n{known:,} items have blemishes that official files are known to have; they are left out")
    print(f"\n{len(problems):,} problems" if problems else "\nnothing is wrong", flush=True)
    if problems:
        raise SystemExit(2)


def clean(line: str) -> str:
    """Escapes lone surrogates, which come from undecodable file names and cannot be printed."""
    return line.encode("utf-8", "backslashreplace").decode()
