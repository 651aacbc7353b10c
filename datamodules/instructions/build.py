"""The command `build-instructions`, which generates instruction data from annotation files."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.benchmarks.base import BadPolicy
from datamodules.instructions import files, images, scans
from datamodules.instructions.annotation import Annotation, read_images, read_scans
from datamodules.instructions.by_model import by_model
from datamodules.instructions.endpoint import Endpoint, connect
from datamodules.instructions.images import Item
from datamodules.instructions.response_cache import ResponseCache
from datamodules.source_instructions import random_subset
from octavius.limits import NON_NEGATIVE_NUMBER, POSITIVE_INT, SEED_RANGE
from octavius.suggestions import nearest

Source: TypeAlias = Literal["coco", "scannet"]

KINDS: dict[str, tuple[str, ...]] = {"coco": tuple(images.KINDS), "scannet": tuple(scans.KINDS)}
"""Kinds of question by source: the `task_type`s of LAMM and of Scan2Inst."""

NAMES = {"coco": "lamm_v2_{split}.json", "scannet": "scan2inst_{split}.json"}
"""Default file names."""

READERS = {"coco": "conversations", "scannet": "scan2inst_clouds"}
"""Readers of `datamodules.benchmarks` for the files that this command writes."""


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
    SEED_RANGE.check(seed=seed)
    NON_NEGATIVE_NUMBER.check(prices=prices)
    settings: dict[str, Any] = {
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
        settings |= {"model": model, "extra": endpoint.secrets.redact_all(extra)}
    files.refuse_other_settings(out, settings)
    annotations = read(source, root, split, kinds, bad)
    annotations = random_subset(annotations, limit, f"{seed}/{source}/{split}")
    if endpoint is None:
        items = generate_from_templates(source, annotations, out, kinds, seed, progress)
    else:
        answers = ResponseCache(out.with_suffix(".answers.jsonl") if cache is None else cache.expanduser())
        items = generate_with_model(annotations, out, kinds, endpoint, answers, prices, progress)
    write_and_report(source, out, items, settings, len(annotations))
    return out


def generate_from_templates(
    source: Source,
    annotations: Sequence[Annotation],
    out: Path,
    kinds: Sequence[str],
    seed: int,
    progress: bool,
) -> list[Item]:
    """The items of all annotations, from templates."""
    unit = " images" if source == "coco" else " scans"
    items: list[Item] = []
    for annotation in tqdm(annotations, f"writing {out.name}", unit=unit, disable=not progress):
        if annotation.image is None:
            items += scans.by_template(annotation, kinds, seed)
        else:
            items += images.by_template(annotation, kinds, seed, relative_image_path(annotation, out.parent))
    return items


def generate_with_model(
    annotations: Sequence[Annotation],
    out: Path,
    kinds: Sequence[str],
    endpoint: Endpoint,
    answers: ResponseCache,
    prices: tuple[float, float] | None,
    progress: bool,
) -> list[Item]:
    """The items of all annotations, from a model; prints the usage and why pairs were rejected."""
    image_path = partial(relative_image_path, out_dir=out.parent)
    for annotation in annotations:
        if annotation.image is not None:
            image_path(annotation)  # fail on images elsewhere before any request is paid for
    outcome = by_model(annotations, kinds, endpoint, answers, image_path, progress)
    files.write_rejected(out, outcome.rejected)
    print(outcome.summary(prices))
    if outcome.rejected:
        reasons = outcome.rejection_reasons()
        print(f"rejected {len(outcome.rejected)}, listed in {files.rejected_of(out)}: {reasons}")
    if outcome.unanswered:
        print(
            f"warning: {outcome.unanswered} requests failed; run the same command again to retry them",
            file=sys.stderr,
        )
    return outcome.items


def check_settings(source: Source, kinds: Sequence[str], limit: int | None) -> None:
    """Validates the kinds and the limit.

    Raises:
        ValueError: the source has no such kind, or the limit is below 1.
    """
    unknown = [kind for kind in kinds if kind not in KINDS[source]]
    if unknown or not kinds:
        known = f"{source} has {', '.join(KINDS[source])}"
        if unknown:
            raise ValueError(
                f"unknown kind {unknown[0]!r} in --kinds{nearest(unknown[0], KINDS[source])}; {known}"
            )
        raise ValueError(f"--kinds is empty; {known}")
    POSITIVE_INT.check(limit=limit)


def read(source: Source, root: Path, split: str, kinds: Sequence[str], bad: BadPolicy) -> list[Annotation]:
    """The annotations of a source, at least one.

    Raises:
        ValueError: files are missing or malformed, or no object is annotated.
    """
    if source == "coco":
        annotations = read_images(root, split, "description" in kinds, bad)
    else:
        annotations = read_scans(root, split, bad)
    if not annotations:
        raise ValueError(f"no annotated objects in the split '{split}' under {root}")
    return annotations


def relative_image_path(annotation: Annotation, out_dir: Path) -> str:
    """Path of an image relative to the folder of the instruction file.

    Raises:
        ValueError: the image is outside that folder, where the reader would refuse it.
    """
    assert annotation.image is not None
    image, folder = Path(os.path.abspath(annotation.image)), Path(os.path.abspath(out_dir))
    if not image.is_relative_to(folder):
        raise ValueError(
            f"the images in {image.parent} do not lie below {folder}, the folder of --out, which training takes "
            "as the root of the data; choose --out in the folder of COCO, or in a folder above it"
        )
    return image.relative_to(folder).as_posix()


def write_and_report(
    source: Source, out: Path, items: list[Item], settings: dict[str, Any], num_annotations: int
) -> None:
    """Writes the file, and prints what it contains and how to train on it.

    Raises:
        ValueError: there is no item.
    """
    if not items:
        raise ValueError(
            f"no items to write: no annotation has what the kinds {', '.join(settings['kinds'])} need; {out} was "
            "not written"
        )
    files.write(out, items, settings)
    kinds = Counter(item["task_type"] for item in items)
    summary = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    unit = "images" if source == "coco" else "scans"
    print(f"wrote {out}: {len(items)} items from {num_annotations} {unit} ({summary})")
    print(
        f"to train on it, set data.root to {out.parent} and add {{benchmark: {READERS[source]}, split: {out.stem}}} "
        "to data.train"
    )
