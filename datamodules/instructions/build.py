"""The command `build-instructions`, which generates instruction data from annotation files."""

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
from octavius.suggestions import nearest

Source: TypeAlias = Literal["coco", "scannet"]

KINDS: dict[str, tuple[str, ...]] = {"coco": tuple(pictures.KINDS), "scannet": tuple(rooms.KINDS)}
"""Kinds of question by source: the `task_type`s of LAMM and of Scan2Inst."""

NAMES = {"coco": "lamm_v2_{split}.json", "scannet": "scan2inst_{split}.json"}
"""Default file names."""

READERS = {"coco": "conversations", "scannet": "scan2inst_clouds"}
"""Benchmarks that read the files back."""


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
    """Generates instruction data from annotations: LAMM-v2-like from COCO, Scan2Inst-like from ScanNet.

    Questions and answers come from templates, the same for the same seed; or, with --model, from a language
    model behind any OpenAI-compatible endpoint, set by OPENAI_BASE_URL and OPENAI_API_KEY. The model gets the
    annotation as text, never an image, and its question-answer pairs are kept only if the annotation proves them.
    All responses are cached: an interrupted run resumes, and repeating a finished one sends no requests.

    Args:
        source: whose annotations to read: coco, or scannet (with ScanRefer's sentences if that file exists).
        root: folder of the data set, in its official layout.
        split: name of the split in the data set, such as train2017 or train.
        out: file to write; by default lamm_v2_<split>.json or scan2inst_<split>.json in root. Paths of
            images are stored relative to the folder of this file, so for coco that folder must be root or an
            ancestor of root.
        kinds: kinds of question, as in "[detection, VQA]"; all by default. For coco detection, description,
            classification, VQA; for scannet classification3d, description3d, VQA3D.
        limit: use only this many images or scans, a random subset; all by default.
        seed: seed of the choice of templates, of the objects asked about, and of the subset.
        model: name of the model at the endpoint; templates are used by default.
        concurrency: number of concurrent requests.
        retries: maximum number of retries of a request after HTTP 429 or 5xx, a time-out or a broken connection.
        timeout: seconds that one attempt may take until its response is complete.
        extra: further fields of every request, such as "{temperature: 0.2}"; null removes one, as in
            "{response_format: null}" for an endpoint that does not support it.
        cache: file of the cached responses; by default out with the suffix .answers.jsonl.
        prices: price of a million tokens, input and output, as in "[0.15, 0.6]"; adds the cost to the
            summary.
        bad: error stops at an invalid annotation, such as a box outside its image; skip leaves those out and warns.
        progress: show a progress bar.

    Raises:
        ValueError: files are missing or malformed, settings are invalid, or out exists and was made with
            other settings.
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
        "seed": seed,
    }
    endpoint = None
    if model is not None:
        endpoint = connect(model, concurrency, retries, timeout, extra)
        record |= {"model": model, "extra": endpoint.secrets.strike_all(extra)}
    files.check(out, record)
    annotations = read(source, root, split, kinds, bad)
    if limit is not None and limit < len(annotations):
        kept = random.Random(f"{seed}/{source}/{split}").sample(range(len(annotations)), limit)
        annotations = [annotations[index] for index in sorted(kept)]
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
    """The items of all annotations, from templates."""
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
    """The items of all annotations, from a model; prints how many were rejected, and the total cost."""
    for annotation in annotations:
        if annotation.image is not None:
            relative(annotation, out.parent)  # fail on images elsewhere before any request is paid for
    made = by_model(annotations, kinds, endpoint, answers, lambda one: relative(one, out.parent), progress)
    files.write_rejected(out, made.rejected)
    print(made.told(prices))
    if made.rejected:
        print(f"rejected {len(made.rejected)}, listed in {files.rejected_of(out)}: {made.why()}")
    if made.unanswered:
        print(
            f"warning: {made.unanswered} requests failed; run the same command again to retry them",
            file=sys.stderr,
        )
    return made.items


def check_settings(source: Source, kinds: Sequence[str], limit: int | None) -> None:
    """Validates the kinds and the limit.

    Raises:
        ValueError: the source has no such kind, or the limit is below 1.
    """
    unknown = [kind for kind in kinds if kind not in KINDS[source]]
    if unknown or not kinds:
        found = f"found {unknown[0]!r}{nearest(unknown[0], KINDS[source])}" if unknown else "found none"
        raise ValueError(f"--kinds of {source} are {', '.join(KINDS[source])}; {found}")
    COUNT.check(limit=limit)


def read(source: Source, root: Path, split: str, kinds: Sequence[str], bad: BadPolicy) -> list[Annotation]:
    """The annotations of a source, at least one.

    Raises:
        ValueError: files are missing or malformed, or no object is annotated.
    """
    if source == "coco":
        found = read_pictures(root, split, "description" in kinds, bad)
    else:
        found = read_scans(root, split, bad)
    if not found:
        raise ValueError(f"no annotated objects in the split '{split}' under {root}")
    return found


def relative(annotation: Annotation, home: Path) -> str:
    """Path of an image relative to the folder of the instruction file.

    Raises:
        ValueError: the image is outside that folder, where the reader would refuse it.
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
    """Writes the file, and prints what it contains and how to train on it.

    Raises:
        ValueError: there is no item.
    """
    if not items:
        raise ValueError(
            f"no items to write: no annotation has what the kinds {', '.join(record['kinds'])} need; {out} was "
            "not written"
        )
    files.write(out, items, record)
    kinds = Counter(item["task_type"] for item in items)
    summary = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    print(
        f"wrote {out}: {len(items)} items from {count} {'images' if source == 'coco' else 'scans'} ({summary})"
    )
    print(
        f"to train on it, set data.root to {out.parent} and add {{benchmark: {READERS[source]}, split: {out.stem}}} "
        "to data.train"
    )
