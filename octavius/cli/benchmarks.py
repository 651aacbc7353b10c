"""The command `octavius test --benchmarks`: answers benchmarks, resumably, and writes the paper's tables.

The output folder is bound to a checkpoint, prompt, decoding and data by their hashes, so that answers of
different models never mix.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning as L

from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.stopping import ending
from octavius.checkpoint.resuming import check_resumable, restoring
from octavius.cli.arguments import shown
from octavius.evaluation.answers import Decoding, left_out_lines
from octavius.evaluation.prediction_files import PARTS, PredictionFiles
from octavius.evaluation.scores import sets
from octavius.files import check_writable, read_json, write_text
from octavius.options import OptionParser
from octavius.report.benchmark_evaluation import BenchmarkEvaluation, explained, lines
from octavius.report.tables import Score, score_all, write_tables
from octavius.training import OctaviusModule

FLAG = "--benchmarks"
KEYS, STEM = "keys.json", "benchmarks"


class Sets(Protocol):
    """The interface of the benchmarks' data module."""

    done: Any

    def prepare_data(self) -> None:
        """Creates files that are needed."""

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """What every sample asks, by set; hashed to detect changes of the data."""

    def left(self) -> list[int]:
        """Indices of the samples that are not answered yet."""


def asks_for_benchmarks(argv: Sequence[str]) -> bool:
    """Whether arguments of `octavius test` include `--benchmarks`."""
    return any(argument.partition("=")[0] == FLAG for argument in argv)


def run_benchmarks(
    argv: Sequence[str], prepare: Callable[[str, Sequence[str]], Any], make: Callable[..., Any]
) -> None:
    """Answers the samples that have no answer yet, scores all, writes and prints the tables.

    Args:
        argv: arguments of the command.
        prepare: builds model, data and trainer of a stage from arguments.
        make: builds the benchmarks' data module from that of the configuration, their names and the data
            root.

    Raises:
        ValueError: the folder holds predictions for another checkpoint, prompt, decoding or data.
    """
    options, rest = parser().parse_known_args(list(argv))
    out, start = Path(options.out), time.monotonic()
    cli = prepare("test", rest)
    module, trainer = cli.model, cli.trainer
    if not isinstance(module, OctaviusModule):
        raise ValueError(f"benchmarks ask questions, which {type(module).__name__} does not answer")
    checkpoint = None if cli.checkpoint is None else cli.checkpoint.path
    if cli.checkpoint is not None:
        cli.checkpoint.check(module)
        check_resumable(cli.checkpoint, trainer, None, fit=False)
    elif trainer.is_global_zero:
        print("no --ckpt is named: the model is scored as it is before any training")
    data = make(cli.datamodule, options.benchmarks, options.data_root)
    data.prepare_data()
    configured = next(item for item in trainer.callbacks if isinstance(item, Evaluation))
    facts = data.facts()
    keys = keys_of(facts, module, checkpoint, configured.decoding, str(trainer.precision))
    claim(out, keys, trainer.is_global_zero)
    samples = [(name, row["id"]) for name, rows in facts.items() for row in rows]
    evaluation = BenchmarkEvaluation(configured, out, samples)
    data.done = {item.key for item in evaluation.earlier}
    # Interrupted during the controls: answers one sample again, since they run at the end of a test epoch.
    if not data.left() and evaluation.controls_left(evaluation.earlier):
        data.done = set(data.done) - {next(iter(data.done))}
    if data.left():
        say_what_is_left(facts, data, trainer)
        trainer.callbacks = [evaluation if item is configured else item for item in trainer.callbacks]
        with ending(trainer), restoring(trainer, checkpoint):
            trainer.test(module, datamodule=data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        finish(out, facts, evaluation)
        print(f"\n{time.monotonic() - start:.0f} s in all; tables and predictions: {shown(out)}")


def parser() -> OptionParser:
    """The argument parser of the options that only `test --benchmarks` has."""
    option_parser = OptionParser(
        prog="octavius test",
        description="Answers the named benchmarks and writes one table in the paper's form.",
        epilog="Any other option is one of `octavius test`. A run that was cut off goes on where it stopped.",
    )
    option_parser.add_argument(
        FLAG, required=True, help="names with commas, such as voc2012,scienceqa or 2d; or miniature"
    )
    option_parser.add_argument(
        "--data-root", "--data_root", default="data", help="the folder that holds them (default: data)"
    )
    option_parser.add_argument(
        "--out", default="runs/benchmarks", help="folder of predictions and tables (default: runs/benchmarks)"
    )
    return option_parser


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
    decoding: Decoding,
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
        "prompt": _hash([repr(prompts.generation_template), prompts.slots, prompts.max_tokens]),
        "decoding": _hash(
            [
                decoding.max_new_tokens,
                decoding.num_beams,
                decoding.likelihood,
                repr(decoding.sampling),
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
    file, predictions = out / KEYS, PredictionFiles(out)
    before = read_json(file) if file.is_file() else {}
    if not isinstance(before, dict) or not all(isinstance(key, dict) for key in before.values()):
        raise ValueError(
            f"{file} is damaged: expected keys by set; name another folder with --out, or remove {out}"
        )
    for name, key in keys.items():
        if not predictions.has(name):
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


def finish(out: Path, facts: dict[str, list[dict[str, Any]]], evaluation: BenchmarkEvaluation) -> list[Score]:
    """Writes the predictions of each set in the order of its data and the tables, and deletes partial files."""
    answers = evaluation.read()
    evaluation.files.finish(answers)
    left = {name: len(rows) for name, rows in facts.items()}
    for item in answers:
        left[item.set_name] -= 1
    assert not any(left.values()), f"samples that were not answered, by set: {left}"
    scores = [
        one
        for title, items in sets([item for item in answers if not item.left_out]).items()
        for one in score_all(title, items)
    ]
    known = {one.name for one in scores}
    controls = {name: entry for name, entry in evaluation.known_controls().items() if name in known}
    print("\n" + write_tables(scores, out, STEM, (explained(), lines(controls))))
    print("".join(f"{line}\n" for line in left_out_lines(answers)), end="")
    return scores
