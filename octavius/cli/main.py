"""The command line: joins data modules and models, and runs fit, test, predict, export, compare and the others."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden

from datamodules.benchmark_sets import BenchmarkSets
from datamodules.check_samples import check_samples, options_parser
from datamodules.instructions.build import build_instructions
from octavius.callbacks.stopping import ending
from octavius.callbacks.targets import check_targets
from octavius.checkpoint import added, convert
from octavius.checkpoint.export import export
from octavius.checkpoint.resuming import check_resumable, count_from, restoring
from octavius.cli import check_data
from octavius.cli.arguments import named, shown
from octavius.cli.benchmarks import asks_for_benchmarks, run_benchmarks
from octavius.cli.classes import WRITERS
from octavius.cli.demo import demo
from octavius.cli.lightning_cli import ConfigOnlyCLI, parse, prepare
from octavius.cli.predict import predict
from octavius.cli.questions import joined
from octavius.cli.reporting import reporting_errors
from octavius.cli.score import score
from octavius.cli.serve import serve
from octavius.cli.usage import HELP_ALL, overview, unknown_command
from octavius.compare.runs import compare
from octavius.configuration.functions import call
from octavius.files import check_writable
from octavius.interference import report as lab
from octavius.plan.prompts import check_configuration
from octavius.plan.report import report, split_arguments
from octavius.runs.listing import runs
from octavius.training import OctaviusModule

STAGES = ("fit", "validate", "test")
"""Commands that run a trainer."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "predict": predict,
    "serve": serve,
    "export": export,
    **WRITERS,
    "build-instructions": build_instructions,
}
"""Commands that are plain functions."""

OWN_PARSERS: dict[str, Callable[[Sequence[str]], None]] = {
    "compare": compare,
    "demo": demo,
    "check-data": check_data.run,
    "runs": runs,
    "score": score,
}
"""Commands that parse their own arguments."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; errors of the user end with one message and status 2, a signal with status 130.

    Args:
        args: the arguments; None for those of the process.
    """
    reporting_errors(run, args)


def run(argv: list[str]) -> None:
    """Runs one command; errors propagate."""
    if (text := overview(argv)) is not None:
        print(text, end="")
        return
    if (wrong := unknown_command(argv)) is not None:
        raise ValueError(wrong)
    command, *options = ["--help" if argument == HELP_ALL else argument for argument in argv]
    if command == "check-data" and any(argument.partition("=")[0] == "--config" for argument in options):
        own, rest = options_parser().parse_known_args(options)
        check_configuration(parse(ConfigOnlyCLI, command, rest).config, partial(check_samples, options=own))
    elif command in FUNCTIONS:
        argv = joined(options) if command == "predict" else options
        call(FUNCTIONS[command], command, argv, command in WRITERS)
    elif command == "test" and asks_for_benchmarks(options):
        run_benchmarks(options, prepare, BenchmarkSets)
    elif command in STAGES:
        run_stage(command, options)
    elif command == "import":
        run_import(options)
    elif command == "interference":
        run_interference(options)
    elif command in OWN_PARSERS:
        OWN_PARSERS[command](options)
    else:
        assert command == "plan"
        own, rest = split_arguments(options)
        print(report(parse(ConfigOnlyCLI, "plan", rest).config, own))


def run_stage(stage: str, argv: Sequence[str]) -> None:
    """Runs `fit`, `validate` or `test`."""
    cli = prepare(stage, argv)
    trainer, answers = cli.trainer, isinstance(cli.model, OctaviusModule)
    checkpoint = None if cli.checkpoint is None else cli.checkpoint.path
    if cli.checkpoint is not None:
        cli.checkpoint.check(cli.model)
        check_resumable(cli.checkpoint, trainer, cli.datamodule, stage == "fit")
        if stage != "fit":
            count_from(trainer, cli.checkpoint)
    elif stage != "fit" and answers and trainer.is_global_zero:
        print("no --ckpt is named: the model is scored as it is before any training")
    if trainer.is_global_zero:
        check_targets(trainer, cli.model, stage == "fit")
    # The Evaluation callback prints its own table for models that answer questions; others need Lightning's.
    options = {} if stage == "fit" else {"verbose": not answers}
    try:
        with ending(trainer), restoring(trainer, checkpoint):
            getattr(trainer, stage)(
                cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, **options
            )
    finally:
        if trainer.is_global_zero:
            say_where(trainer, cli.files.last)


def run_import(argv: Sequence[str]) -> None:
    """Runs `import`: makes a checkpoint to start from, of another program's files or of a checkpoint."""
    options, rest = convert.parser().parse_known_args(list(argv))
    if options.out.exists():
        raise ValueError(f"{options.out} exists already; name another file, or remove it first")
    check_writable(options.out.parent)
    opened = added.open_one(options.files, options.add_experts, rest)
    if opened is not None:
        rest = ["--ckpt", str(opened.path), *rest, *added.options_with(opened, options.add_experts)]
    # Read before the weights of the base, which may take minutes.
    source = convert.read_source(options.files) if opened is None else {}
    cli = prepare("import", rest)
    if not isinstance(cli.model, OctaviusModule):
        raise ValueError(
            f"experts are of an OctaviusModule, the configuration has a {type(cli.model).__name__}"
        )
    if opened is None:
        taken = convert.import_into(cli.model, source, options.base)
    else:
        taken = added.fill_from(cli.model, opened, options.add_experts, cli.datamodule)
    cli.files.save_checkpoint(convert.start_of(cli.model), options.out)
    print(
        f"{shown(options.out)}: {taken}\nnext: octavius fit --ckpt {named(options.out)}, or test, or predict"
    )


def run_interference(argv: Sequence[str]) -> None:
    """Runs `interference`: measures a checkpoint on its training samples and writes a report."""
    options, rest = lab.parser().parse_known_args(list(argv))
    check_writable(options.out)
    cli = prepare("interference", rest)
    if cli.checkpoint is None or not isinstance(cli.model, OctaviusModule):
        raise ValueError("name a checkpoint of an OctaviusModule, such as --ckpt last.ckpt")
    cli.checkpoint.load_into(cli.model)
    cli.model.to(cli.trainer.strategy.root_device)
    found = lab.measure(cli.model, cli.datamodule, options.samples)
    print(lab.write(found, options.out, f"{shown(cli.checkpoint.path)}"))
    print(f"page and tables: {shown(options.out)}")


def say_where(trainer: L.Trainer, checkpoint: Path | None) -> None:
    """Prints where the results are and what to run next; after an error, how to resume."""
    if not trainer.state.finished:
        if checkpoint is not None:
            place, name = shown(checkpoint), named(checkpoint)
            print(f"\nthe training so far is in {place}; go on with: octavius fit --ckpt {name}")
        return
    print()
    # Not `trainer.log_dir`, which broadcasts: this runs on rank 0 only.
    folder = getattr(trainer.logger, "log_dir", None)
    if isinstance(folder, str):
        print(f"logs, predictions and tables: {shown(Path(folder))}")
    if checkpoint is not None:
        stage = "test" if is_overridden("test_step", trainer.lightning_module) else "validate"
        print(f"checkpoint: {shown(checkpoint)}\nnext: octavius {stage} --ckpt {named(checkpoint)}")
        if isinstance(folder, str) and trainer.logger is not None:
            print(
                f"      tensorboard --logdir {trainer.logger.save_dir}    # http://localhost:6006/#custom_scalars"
            )
