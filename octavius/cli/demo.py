"""The command `octavius demo`: loads checkpoints and the questions of their evaluation sets, and serves the page."""

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch

from datamodules.base import InstructionDataModule
from datamodules.examples import EvalSet, find_task
from octavius.checkpoint.load import load_checkpoint, load_export
from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.cli.serve import PORT, listening
from octavius.configuration.parser import Parser
from octavius.configuration.rules import merging_rules
from octavius.configuration.text import parse_config
from octavius.configuration.trust import only_listed
from octavius.demo.asking import Asked
from octavius.demo.callbacks import Callbacks
from octavius.demo.examples import Example, chips, pictured
from octavius.demo.options import parser
from octavius.demo.page import build_page
from octavius.demo.server import check_installed, scratch, serving
from octavius.limits import SIZE_RANGE
from octavius.presets import find_checkpoint
from octavius.serve.engine import Engine

PER_SET = 12
"""Samples of each evaluation set that are looked at for examples."""

CONVERSATIONS = ("conversations", "lamm", "messages", "scan2inst", "scan2inst_clouds", "scan2inst_pickle")
"""Benchmarks with earlier turns: a model that was trained on one of them can make use of such turns."""


def demo(words: Sequence[str]) -> None:
    """Serves the page until a signal comes.

    Args:
        words: arguments of the command.

    Raises:
        ValueError: an option is out of range, the address is not free, a checkpoint cannot be loaded, or Gradio is
            missing.
    """
    options = parser().parse_all(words)
    PORT.check(port=options.port)
    SIZE_RANGE.check(**{"max-new-tokens": options.max_new_tokens})
    with listening(options.host, options.port) as listener:
        port = listener.getsockname()[1]
    check_installed()
    names = [options.ckpt, *([] if options.against is None else [options.against])]
    opened = [open_one(name) for name in names]
    with ExitStack() as stack:
        stack.enter_context(scratch())
        asked = []
        for name, one in zip(names, opened, strict=True):
            read = load_export if isinstance(one, Path) else load_checkpoint
            module = read(one, options.trust)  # type: ignore[arg-type]
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            engine = stack.enter_context(Engine(module.to(device or "cpu")))
            asked.append(Asked(name, engine, options.max_new_tokens))
        data = data_of(opened[0], options.trust)
        examples = examples_of(data) if data is not None else []
        shown = pictured(examples, asked[0].modalities)
        other = asked[1] if len(asked) > 1 else None
        callbacks = Callbacks(asked[0], other, examples, [example for example, _ in shown])
        page = build_page(
            callbacks,
            [picture for _, picture in shown],
            chips(examples, asked[0].modalities),
            remember=data is not None and trained_on_conversations(data),
        )
        with serving(page, callbacks, options.host, port, options.share) as (address, public):
            print(f"octavius demo asks {' and '.join(names)} at {address} (Ctrl-C ends it)", flush=True)
            if public is not None:
                print(f"everyone who has this address can ask too: {public}", flush=True)
            threading.Event().wait()


def open_one(name: str) -> OpenCheckpoint | Path:
    """A checkpoint that has been read, or the folder of an export."""
    path = find_checkpoint(name)
    return path if path.is_dir() else open_checkpoint(path)


def data_of(opened: OpenCheckpoint | Path, trust: bool) -> InstructionDataModule | None:
    """The data module of a checkpoint's configuration; None for an export, or without a usable one."""
    if isinstance(opened, Path):
        return None
    saved = opened.configuration
    section = parse_config(saved.text, saved.source).get("data")
    if section is None:
        return None
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    with ExitStack() as stack:
        stack.enter_context(merging_rules())
        if not trust:
            stack.enter_context(only_listed(saved.source, section))
        data = parser.instantiate(parser.parse_object({"data": section})).data
    return data if isinstance(data, InstructionDataModule) else None


def examples_of(data: InstructionDataModule) -> list[Example]:
    """Samples of the validation sets, or of the test sets if there are none; a line says why there are none."""
    try:
        sets = data.eval_sets("validate") or data.eval_sets("test")
        return [example for item in sets for example in _of_set(item)]
    except (ValueError, OSError) as error:
        print(f"the page has no examples: {error}")
        return []


def _of_set(item: EvalSet) -> Iterator[Example]:
    """Some samples of a set, the same at every start, each with its question as in an evaluation."""
    count = min(PER_SET, len(item.samples))
    for index in sorted(random.Random(item.name).sample(range(len(item.samples)), count)):
        sample = replace(item.samples[index], benchmark=item.name)
        if sample.placed:  # the page has one image, before the question
            continue
        task, rng = find_task(sample.task), random.Random(f"{item.name}/{sample.id}")
        with suppress(ValueError):  # such as a protocol that does not fit; an evaluation would say so
            question = task.question(sample, rng, item.unseen_wording)
            truth = task.answer(sample, random.Random(0))
            yield Example(item.name, sample.task, question, truth, sample.media, own=bool(sample.question))


def trained_on_conversations(data: InstructionDataModule) -> bool:
    """Whether a training set has earlier turns, by the names of its sources; no file is read."""
    parts: Mapping[str, Any] = getattr(data, "parts", {"": data})
    sources = [source for part in parts.values() for source in getattr(part, "train", [])]
    return any(getattr(source, "benchmark", "") in CONVERSATIONS for source in sources)
