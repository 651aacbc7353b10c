"""The command `octavius test --benchmarks`: answers benchmarks, resumably, and writes the paper's tables.

The output folder is bound to a checkpoint, prompt, decoding and data by their hashes, so that answers of
different models never mix.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import lightning as L

from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.scoring.answers import Answered, told
from octavius.callbacks.scoring.journal import Journal
from octavius.callbacks.scoring.scores import sets
from octavius.callbacks.stopping import ending
from octavius.checkpoint.load import matching
from octavius.checkpoint.resuming import check_resumable, restoring
from octavius.cli.arguments import shown
from octavius.display import file_name
from octavius.files import check_writable, read_json, replacing, write_text
from octavius.presets import find_checkpoint
from octavius.report.blinded import BlindControls, explained, lines
from octavius.report.predictions import read_predictions, write_predictions
from octavius.report.tables import Score, score_all, write_tables
from octavius.training import OctaviusModule

FLAG = "--benchmarks"
KEYS, PARTS, STEM = "keys.json", "unfinished", "benchmarks"


class Sets(Protocol):
    """The interface of the benchmarks' data module."""

    done: Any

    def prepare_data(self) -> None:
        """Creates files that are needed."""

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """What every sample asks, by set; hashed to detect changes of the data."""

    def left(self) -> list[int]:
        """Indices of the samples that are not answered yet."""


def asks_for_benchmarks(words: Sequence[str]) -> bool:
    """Whether arguments of `octavius test` include `--benchmarks`."""
    return any(word.partition("=")[0] == FLAG for word in words)


def run_benchmarks(
    words: Sequence[str], prepare: Callable[[str, Sequence[str]], Any], make: Callable[..., Any]
) -> None:
    """Answers the samples that have no answer yet, scores all, writes and prints the tables.

    Args:
        words: arguments of the command.
        prepare: builds model, data and trainer of a stage from arguments.
        make: builds the benchmarks' data module from that of the configuration, their names and the data
            root.

    Raises:
        ValueError: the folder holds predictions for another checkpoint, prompt, decoding or data.
    """
    options, rest = parser().parse_known_args(list(words))
    out, start = Path(options.out), time.monotonic()
    cli = prepare("test", rest)
    module, trainer = cli.model, cli.trainer
    if not isinstance(module, OctaviusModule):
        raise ValueError(f"benchmarks ask questions, which {type(module).__name__} does not answer")
    checkpoint = None if cli.config["ckpt"] is None else find_checkpoint(cli.config["ckpt"])
    if checkpoint is not None:
        check_resumable(checkpoint, matching(checkpoint, module), trainer, None, fit=False)
    elif trainer.is_global_zero:
        print("no --ckpt is named: the model is scored as it is before any training")
    data = make(cli.datamodule, options.benchmarks, options.data_root)
    data.prepare_data()
    evaluation = next(item for item in trainer.callbacks if isinstance(item, Evaluation))
    facts = data.facts()
    keys = keys_of(facts, module, checkpoint, evaluation, str(trainer.precision))
    claim(out, keys, trainer.is_global_zero)
    answers = answered(out, facts)
    data.done = {(name, key) for name, items in answers.items() for key in items}
    blinded = BlindControls(out, evaluation, partial(in_order, out, facts))
    # Interrupted during the controls: answers one sample again, since they run at the end of a test epoch.
    if not data.left() and blinded.wanted():
        data.done = set(data.done) - {next(iter(data.done))}
    if data.left():
        say_what_is_left(facts, data, trainer)
        how = evaluation
        journal = Journal(out / PARTS, how.max_new_tokens, how.num_beams, how.likelihood, how.sampling)
        trainer.callbacks = [
            one
            for item in trainer.callbacks
            for one in ([journal, blinded] if item is evaluation else [item])
        ]
        with ending(trainer), restoring(trainer, checkpoint):
            trainer.test(module, datamodule=data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        finish(out, facts, answered(out, facts), blinded.known())
        print(f"\n{time.monotonic() - start:.0f} s in all; tables and predictions: {shown(out)}")


def parser() -> argparse.ArgumentParser:
    """The argument parser of the options that only `test --benchmarks` has."""
    made = argparse.ArgumentParser(
        prog="octavius test",
        description="Answers the named benchmarks and writes one table in the paper's form.",
        epilog="Any other option is one of `octavius test`. A run that was cut off goes on where it stopped.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    made.add_argument(
        FLAG, required=True, help="names with commas, such as voc2012,scienceqa or 2d; or miniature"
    )
    made.add_argument(
        "--data-root", "--data_root", default="data", help="the folder that holds them (default: data)"
    )
    made.add_argument(
        "--out", default="runs/benchmarks", help="folder of predictions and tables (default: runs/benchmarks)"
    )
    return made


def say_what_is_left(facts: dict[str, list[Any]], data: Sets, trainer: L.Trainer) -> None:
    """Prints how many samples of how many sets there are, and how many have been answered."""
    if trainer.is_global_zero:
        every = sum(map(len, facts.values()))
        kept = every - len(data.left())
        before = f", {kept} of them answered before" if kept else ""
        print(f"\n{every} samples of {len(facts)} sets{before}", flush=True)


def keys_of(
    facts: dict[str, list[dict[str, Any]]],
    module: OctaviusModule,
    checkpoint: Path | None,
    evaluation: Evaluation,
    precision: str,
) -> dict[str, dict[str, str]]:
    """For each set, hashes of what its answers depend on: checkpoint, prompt, decoding and data."""
    prompts = module.processor.prompts
    weights = "none"
    if checkpoint is not None:
        with checkpoint.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    shared = {
        "checkpoint": f"{weights} {module.frozen_fingerprint}",
        "prompt": _hash([repr(prompts.asking), prompts.slots, prompts.max_tokens]),
        "decoding": _hash(
            [
                evaluation.max_new_tokens,
                evaluation.num_beams,
                evaluation.likelihood,
                repr(evaluation.sampling),
                precision,
            ]
        ),
    }
    return {name: {**shared, "data": _hash(rows)} for name, rows in facts.items()}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def claim(out: Path, keys: dict[str, dict[str, str]], write: bool) -> None:
    """Writes the keys to the folder, unless it holds answers with other keys.

    Raises:
        ValueError: the folder holds such answers.
    """
    file = out / KEYS
    before = read_json(file) if file.is_file() else {}
    if not isinstance(before, dict) or not all(isinstance(key, dict) for key in before.values()):
        raise ValueError(
            f"{file} is damaged: expected keys by set; name another folder with --out, or remove {out}"
        )
    for name, key in keys.items():
        if not begun(out, name):
            continue
        changed = [what for what, value in key.items() if before.get(name, {}).get(what) != value]
        if changed:
            raise ValueError(
                f"{out} holds predictions for {name} that were made with another {' and another '.join(changed)}; "
                f"name another folder with --out, or remove {out} to begin anew"
            )
    if write:
        check_writable(out / PARTS)
        write_text(file, json.dumps({**before, **keys}, indent=1))


def begun(out: Path, name: str) -> bool:
    """Whether the folder holds answers to a set."""
    parts = (out / PARTS).glob(f"{file_name(name)}.*.part")
    return (out / f"{file_name(name)}.jsonl").is_file() or any(file.stat().st_size for file in parts)


def answered(out: Path, facts: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Answered]]:
    """All answers in the folder, finished or partial, by set and sample id."""
    found: dict[str, dict[str, Answered]] = {}
    for name, rows in facts.items():
        whole = out / f"{file_name(name)}.jsonl"
        parts = sorted((out / PARTS).glob(f"{file_name(name)}.*.part"))
        known = {row["id"] for row in rows}
        for file in [*([whole] if whole.is_file() else []), *parts]:
            if file.suffix == ".part":
                mend(file)
            for item in read_predictions(file, cut=True):
                if item.sample.benchmark == name and item.sample.id in known:
                    found.setdefault(name, {}).setdefault(item.sample.id, item)
    return found


def in_order(out: Path, facts: dict[str, list[dict[str, Any]]]) -> list[Answered]:
    """All answers in the folder, with the dataset indices of their samples."""
    found = answered(out, facts)
    keys = [(name, row["id"]) for name, rows in facts.items() for row in rows]
    known = [(place, found.get(name, {}).get(key)) for place, (name, key) in enumerate(keys)]
    return [replace(item, place=place) for place, item in known if item is not None and not item.left_out]


def mend(file: Path) -> None:
    """Removes lines that a crash or a full disk left incomplete; their samples are answered again."""
    lines = file.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n") and _is_object(line)]
    if whole != lines:
        with replacing(file) as partial:
            partial.write_bytes(b"".join(whole))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def finish(
    out: Path,
    facts: dict[str, list[dict[str, Any]]],
    answers: dict[str, dict[str, Answered]],
    controls: dict[str, Any],
) -> list[Score]:
    """Writes the predictions of each set in the order of its data and the tables, and deletes partial files.

    Args:
        out: the folder.
        facts: what every sample asks, by set.
        answers: answers by set and sample id.
        controls: blind controls by set, as stored by `BlindControls`.
    """
    scores: list[Score] = []
    gone: list[str] = []
    for name, rows in facts.items():
        items = [answers.get(name, {}).get(row["id"]) for row in rows]
        ordered = [item for item in items if item is not None]
        assert len(ordered) == len(rows), f"{name}: {len(rows) - len(ordered)} samples were not answered"
        write_predictions(out / f"{file_name(name)}.jsonl", ordered)
        gone += told(ordered)
        for title, part in sets([item for item in ordered if not item.left_out]).items():
            scores += score_all(title, part)
    for file in (out / PARTS).glob("*.part"):
        if any(file.name.startswith(f"{file_name(name)}.") for name in facts):
            file.unlink()
    asked = {name: entry for name, entry in controls.items() if any(one.name == name for one in scores)}
    print("\n" + write_tables(scores, out, STEM, (explained(), lines(asked))))
    print("".join(f"{line}\n" for line in gone), end="")
    return scores
