"""The command `build-instructions`: annotation files come in, a file of instruction data goes out."""

import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.benchmarks.base import BadPolicy
from datamodules.instructions import files, pictures, rooms
from datamodules.instructions.annotation import Annotation, read_pictures, read_scans
from datamodules.instructions.answers import Answers
from datamodules.instructions.by_model import by_model
from datamodules.instructions.endpoint import Endpoint, connect
from datamodules.instructions.pictures import Item
from octavius.limits import COUNT, NOT_NEGATIVE, SEED

Source: TypeAlias = Literal["coco", "scannet"]

KINDS: dict[str, tuple[str, ...]] = {"coco": tuple(pictures.KINDS), "scannet": tuple(rooms.KINDS)}
"""What is asked by source: `task_type`s of LAMM and of Scan2Inst."""

NAMES = {"coco": "lamm_v2_{split}.json", "scannet": "scan2inst_{split}.json"}
"""How a file is called when no name is given."""

READERS = {"coco": "conversations", "scannet": "scan2inst_clouds"}
"""The benchmarks that read it back."""


def build_instructions(
    source: Source,
    root: Path,
    split: str,
    out: Path | None = None,
    kinds: list[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    model: str | None = None,
    concurrency: int = 8,
    retries: int = 6,
    timeout: float = 120.0,
    extra: dict[str, Any] | None = None,
    cache: Path | None = None,
    prices: tuple[float, float] | None = None,
    bad: BadPolicy = "error",
    progress: bool = True,
) -> Path:
    """Makes instruction data from annotations: LAMM-v2-like from COCO, Scan2Inst-like from ScanNet.

    Questions and answers come from templates, the same for the same seed; or, with --model, from a language model
    behind any OpenAI-compatible endpoint, which OPENAI_BASE_URL and OPENAI_API_KEY name. It is given the annotation
    as text, never a picture, and what it says is kept only where the annotation proves it. Every answer is cached:
    a run that was stopped goes on where it was, and one that was not asks nothing again.

    Args:
        source: whose annotations are read: coco, or scannet (with ScanRefer's sentences where that file is there).
        root: the folder of the data set, in its official layout.
        split: as the data set calls it, such as train2017 or train.
        out: the file to write; lamm_v2_<split>.json or scan2inst_<split>.json in root when not given. Training
            takes its folder as the root of the data, so of coco that must be root or a folder above it.
        kinds: what to ask, as in "[detection, VQA]"; all when not given. Of coco detection, description,
            classification, VQA; of scannet classification3d, description3d, VQA3D.
        limit: takes so many pictures or scans, drawn by chance; all when not given.
        seed: of wordings, of what is asked about, and of what a limit keeps.
        model: asks this model at the endpoint; templates when not given.
        concurrency: requests under way at once.
        retries: how often a request is made again after 429, 5xx, a time-out or a broken connection.
        timeout: seconds that an answer may take.
        extra: further fields of every request, such as "{temperature: 0.2}"; null takes one away, as in
            "{response_format: null}" for an endpoint that does not know it.
        cache: where answers are kept; <out>.answers.jsonl when not given.
        prices: what a million tokens costs, in and out, as in "[0.15, 0.6]"; adds the money to the cost line.
        bad: error stops at a bad annotation, skip leaves bad ones out and warns.
        progress: shows a progress bar.

    Raises:
        ValueError: files are missing or broken, settings do not fit, or out holds something else.
    """
    root = root.expanduser()
    out = root / NAMES[source].format(split=split) if out is None else out.expanduser()
    kinds = list(KINDS[source]) if kinds is None else kinds
    check_settings(source, kinds, limit)
    SEED.check(seed=seed)
    NOT_NEGATIVE.check(prices=prices)
    record: dict[str, Any] = {
        "version": files.VERSION,
        "source": source,
        "split": split,
        "kinds": kinds,
        "limit": limit,
    }
    record |= {"seed": seed}
    endpoint = None
    if model is not None:
        endpoint = connect(model, concurrency, retries, timeout, extra)
        record |= {"model": model, "extra": endpoint.secrets.strike_all(extra)}
    files.check(out, record)
    annotations = read(source, root, split, kinds, bad)
    if limit is not None and limit < len(annotations):
        kept = random.Random(f"{seed}/{source}/{split}").sample(range(len(annotations)), limit)
        annotations = [annotations[place] for place in sorted(kept)]
    if endpoint is None:
        items = by_template(source, annotations, out, kinds, seed, progress)
    else:
        answers = Answers(out.with_suffix(".answers.jsonl") if cache is None else cache.expanduser())
        items = ask(annotations, out, kinds, endpoint, answers, prices, progress)
    finish(source, out, items, record, len(annotations))
    return out


def by_template(
    source: Source,
    annotations: Sequence[Annotation],
    out: Path,
    kinds: Sequence[str],
    seed: int,
    progress: bool,
) -> list[Item]:
    """The items of all annotations, by templates."""
    unit = " pictures" if source == "coco" else " scans"
    items: list[Item] = []
    for annotation in tqdm(annotations, f"writing {out.name}", unit=unit, disable=not progress):
        if annotation.image is None:
            items += rooms.by_template(annotation, kinds, seed)
        else:
            items += pictures.by_template(annotation, kinds, seed, relative(annotation, out.parent))
    return items


def ask(
    annotations: Sequence[Annotation],
    out: Path,
    kinds: Sequence[str],
    endpoint: Endpoint,
    answers: Answers,
    prices: tuple[float, float] | None,
    progress: bool,
) -> list[Item]:
    """The items of all annotations in a model's words; says what was rejected and what it cost."""
    for annotation in annotations:
        if annotation.image is not None:
            relative(annotation, out.parent)  # before anything is paid for
    made = by_model(annotations, kinds, endpoint, answers, lambda one: relative(one, out.parent), progress)
    files.write_rejected(out, made.rejected)
    print(made.told(prices))
    if made.rejected:
        print(f"rejected {len(made.rejected)}, listed in {files.rejected_of(out)}: {made.why()}")
    if made.unanswered:
        print(
            f"warning: {made.unanswered} requests found no answer; the same command asks them again",
            file=sys.stderr,
        )
    return made.items


def check_settings(source: Source, kinds: Sequence[str], limit: int | None) -> None:
    """Refuses settings that cannot be meant.

    Raises:
        ValueError: a kind that the source has not, or a limit below 1.
    """
    unknown = [kind for kind in kinds if kind not in KINDS[source]]
    if unknown or not kinds:
        found = f"found {unknown[0]!r}" if unknown else "found none"
        raise ValueError(f"--kinds of {source} are {', '.join(KINDS[source])}; {found}")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit should be at least 1, found {limit}")
    COUNT.check(limit=limit)


def read(source: Source, root: Path, split: str, kinds: Sequence[str], bad: BadPolicy) -> list[Annotation]:
    """The annotations of a source, at least one.

    Raises:
        ValueError: files are missing or broken, or hold nothing.
    """
    if source == "coco":
        found = read_pictures(root, split, "description" in kinds, bad)
    else:
        found = read_scans(root, split, bad)
    if not found:
        raise ValueError(f"nothing of the split '{split}' under {root} has an annotated object")
    return found


def relative(annotation: Annotation, home: Path) -> str:
    """Where a picture lies, seen from the folder of the instruction file.

    Raises:
        ValueError: it lies outside, where the reader would not look for it.
    """
    assert annotation.image is not None
    picture, folder = Path(os.path.abspath(annotation.image)), Path(os.path.abspath(home))
    if not picture.is_relative_to(folder):
        raise ValueError(
            f"the pictures in {picture.parent} do not lie below {folder}, the folder of --out, which training takes "
            "as the root of the data; choose --out in the folder of COCO, or in a folder above it"
        )
    return picture.relative_to(folder).as_posix()


def finish(source: Source, out: Path, items: list[Item], record: dict[str, Any], count: int) -> None:
    """Writes the file, and says what it holds and how to train on it.

    Raises:
        ValueError: there is no item.
    """
    if not items:
        raise ValueError(
            f"nothing of what {', '.join(record['kinds'])} ask for is annotated; {out} is not written"
        )
    files.write(out, items, record)
    kinds = Counter(item["task_type"] for item in items)
    told = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    print(
        f"wrote {out}: {len(items)} items about {count} {'pictures' if source == 'coco' else 'scans'} ({told})"
    )
    print(f"train on it with the source {{benchmark: {READERS[source]}, split: {out.stem}}} below its folder")
