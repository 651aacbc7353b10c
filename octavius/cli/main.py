"""The command line: joins data modules and models, and runs fit, test, predict, export, compare and the others."""

import io
import logging
import os
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden

from datamodules.base import InstructionDataModule
from datamodules.benchmark_sets import BenchmarkSets
from datamodules.check_data import check_data
from datamodules.check_samples import check_samples, options_parser
from datamodules.instructions.build import build_instructions
from octavius.callbacks.cost import Cost
from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.left_out import LeftOutSamples
from octavius.callbacks.pictures import AnswerSamples
from octavius.callbacks.position import Position
from octavius.callbacks.progress import Progress
from octavius.callbacks.routing import RoutingReport
from octavius.callbacks.stopping import Stopping, ending
from octavius.callbacks.targets import check_targets
from octavius.callbacks.throughput import Throughput
from octavius.checkpoint import convert
from octavius.checkpoint.export import export
from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.checkpoint.resuming import check_resumable, restoring
from octavius.checkpoint.saving import Checkpoint, CheckpointFiles
from octavius.cli.arguments import called, named, resolve, shown
from octavius.cli.benchmarks import asks_for_benchmarks, run_benchmarks
from octavius.cli.classes import WRITERS
from octavius.cli.demo import demo
from octavius.cli.predict import predict
from octavius.cli.serve import serve
from octavius.cli.trainer_options import check_trainer, refused_by_lightning
from octavius.cli.usage import overview
from octavius.compare.runs import compare
from octavius.configuration.functions import call, parser_settings
from octavius.configuration.parser import LightningParser
from octavius.configuration.rules import merging_rules
from octavius.distributed.fsdp2 import watch_processes
from octavius.distributed.precision import supported_precision
from octavius.errors import message, nearest, readable
from octavius.instruction.batch import Processor
from octavius.interference import report as lab
from octavius.interrupts import INTERRUPTS, STATUS
from octavius.plan.prompts import check_configuration
from octavius.plan.report import report, split_arguments
from octavius.presets import find_checkpoint
from octavius.report.score import score
from octavius.training import OctaviusModule

STAGES = ("fit", "validate", "test")
"""Commands that run a trainer."""

DESCRIPTIONS = {
    "fit": "Train a model, evaluate it after each epoch and keep a checkpoint. Name a configuration and change what "
    "you like: octavius fit --config 2d.yaml --trainer.max_epochs 2. Options of a class are listed by, for "
    "instance, --model.help OctaviusModule or --config 2d.yaml --data.help.",
    "validate": "Evaluate a checkpoint on its validation sets: octavius validate --ckpt last.ckpt",
    "test": "Evaluate a checkpoint on its test sets, octavius test --ckpt last.ckpt; or answer benchmarks, as in the "
    "paper's tables, octavius test --ckpt last.ckpt --benchmarks 2d",
}
"""What their --help begins with."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "predict": predict,
    "serve": serve,
    "export": export,
    **WRITERS,
    "build-instructions": build_instructions,
    "check-data": check_data,
}
"""Commands that are plain functions."""

OWN_PARSERS: dict[str, Callable[[Sequence[str]], None]] = {"compare": compare, "score": score, "demo": demo}
"""Commands that parse their own arguments."""

USER_ERRORS = (
    ArgumentError,
    ImportError,
    OSError,
    ValueError,
    MisconfigurationException,
    torch.OutOfMemoryError,
)
"""Errors that are reported as one line. Any other error is a bug and keeps its traceback."""

DEFAULTS = {
    "logger": {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "runs", "name": "octavius"}},
    "use_distributed_sampler": False,  # the data modules' own sampler divides the samples among the ranks
    "gradient_clip_val": 1.0,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
}


class OctaviusCLI(LightningCLI):
    """LightningCLI with Octavius' callbacks and checkpoint files; instantiates everything, runs nothing."""

    files: CheckpointFiles

    def __init__(self, *args: Any, checkpoint: OpenCheckpoint | None, **options: Any) -> None:
        """Parses the arguments and instantiates the classes.

        Args:
            args: see `LightningCLI`.
            checkpoint: the checkpoint that the arguments name.
            options: see `LightningCLI`.
        """
        self._opened = checkpoint
        super().__init__(*args, **options)

    @property
    def checkpoint(self) -> OpenCheckpoint | None:
        """The checkpoint to resume from or to score, until the trainer has taken it."""
        return self.files.opened

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the checkpoint options and callbacks, and links the model's processor to the data module."""
        parser.add_argument(
            "--ckpt",
            "--ckpt_path",
            type=str | None,
            help="checkpoint to go on from, or to score; the configuration "
            "beside it may name Octavius' own classes and a few others, with --trust any",
        )
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.dirpath": "checkpoints",
                "checkpoint.filename": "last",
                "checkpoint.enable_version_counter": False,
                "checkpoint.save_on_exception": True,
            }
        )
        parser.add_lightning_class_args(Evaluation, "evaluation")
        parser.link_arguments(
            "model", "data.init_args.processor", compute_fn=processor_of, apply_on="instantiate"
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses argv; an error names the files that were read, and suggests the nearest existing option."""
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            text = readable(str(error), re.findall(r"--[\w.]+", parser.format_usage()))
            if "are required: data, model" in text:
                raise ValueError(
                    "model and data are missing; name a configuration, such as --config 2d.yaml"
                ) from None
            files = [called(argument) for flag, argument in pairwise(args) if flag == "--config"]
            raise ValueError(f"{text}\n(read from {', '.join([*files, 'the command line'])})") from None

    def instantiate_trainer(self, **options: Any) -> L.Trainer:
        """Builds the trainer with our callbacks, and with the configuration to store in its checkpoints."""
        config = self.config.clone()
        for key in ("config", "ckpt"):
            config.pop(key, None)
        opened, self._opened = self._opened, None
        if opened is None and self.config["ckpt"] is not None:  # the key `ckpt` of a configuration
            opened = open_checkpoint(find_checkpoint(self.config["ckpt"]))
        text = self.parser.dump(config, skip_unset=False, skip_validation=True)
        self.files = CheckpointFiles(text, opened)
        asked = self.config_init["trainer"]
        check_trainer(asked)
        stopping = Stopping()
        callbacks = [
            Position(),  # first, so that it counts a finished step even if another callback fails after it
            stopping,
            *listed(asked["callbacks"]),
            Throughput(),
            Cost(),
            RoutingReport(),
            AnswerSamples(),
            LeftOutSamples(),
        ]
        callbacks += [LearningRateMonitor("step")] if asked["logger"] else []
        callbacks += [Progress()] if asked["enable_progress_bar"] is not False else []
        plugins = [*listed(asked["plugins"]), self.files]
        precision = supported_precision(asked["precision"], asked["accelerator"])
        built = super().instantiate_trainer(
            callbacks=callbacks, plugins=plugins, precision=precision, **options
        )
        stopping.listen(built)
        watch_processes(built)
        if not isinstance(self.model, OctaviusModule):  # pretraining: the model does not answer questions
            kept = [item for item in built.callbacks if not isinstance(item, Evaluation)]  # type: ignore[attr-defined]
            built.callbacks = kept  # type: ignore[attr-defined]
        return built


class ConfigOnlyCLI(OctaviusCLI):
    """The same command line, but it only parses the configuration and instantiates nothing."""

    def instantiate_classes(self) -> None:
        """Does nothing: only the configuration is wanted."""


def processor_of(model: L.LightningModule) -> Processor | None:
    """The model's processor, which prepares samples for it; None for a model that does not answer questions."""
    return model.processor if isinstance(model, OctaviusModule) else None


def listed(value: Any) -> list[Any]:
    """Normalises a value, a list of values or None to a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; errors of the user end with one message and status 2, a signal with status 130.

    Args:
        args: the arguments; None for those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal's encoding may lack characters of the data
            stream.reconfigure(errors="backslashreplace")
    with INTERRUPTS.listening():
        try:
            run(list(sys.argv[1:] if args is None else args))
        except KeyboardInterrupt:
            INTERRUPTS.ends(STATUS)
            print("octavius: stopped", file=sys.stderr)
            raise SystemExit(STATUS) from None
        except (*USER_ERRORS, RuntimeError, TypeError) as error:
            INTERRUPTS.ends(2)
            if os.environ.get("OCTAVIUS_DEBUG") or not (
                isinstance(error, USER_ERRORS) or refused_by_lightning(error)
            ):
                raise
            print(f"octavius: error: {message(error)}", file=sys.stderr)
            raise SystemExit(2) from None


def run(argv: list[str]) -> None:
    """Runs one command; errors propagate."""
    if (text := overview(argv)) is not None:
        print(text, end="")
        return
    command, options = argv[0], argv[1:]
    if command == "check-data" and any(argument.partition("=")[0] == "--config" for argument in options):
        own, rest = options_parser().parse_known_args(options)
        check_configuration(parse(ConfigOnlyCLI, command, rest).config, partial(check_samples, options=own))
    elif command in FUNCTIONS:
        call(FUNCTIONS[command], command, options, command in WRITERS)
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
    elif command == "plan":
        own, rest = split_arguments(options)
        print(report(parse(ConfigOnlyCLI, "plan", rest).config, own))
    else:
        known = (*STAGES, *FUNCTIONS, "import", "interference", *OWN_PARSERS, "plan")
        raise ValueError(
            f"there is no command '{command}'{nearest(command, known)}; commands are {', '.join(known)}"
        )


def prepare(stage: str, argv: Sequence[str]) -> OctaviusCLI:
    """Builds model, data and trainer from the arguments, and silences warnings about intended behaviour."""
    torch.set_float32_matmul_precision("high")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start")  # frozen encoders
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_reading)
    cli = parse(OctaviusCLI, stage, argv)
    if isinstance(cli.datamodule, InstructionDataModule):  # it restores its position within an epoch itself
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
    return cli


def parse(kind: type[OctaviusCLI], command: str, argv: Sequence[str]) -> OctaviusCLI:
    """Builds a command line of the given class from arguments, with names of presets and checkpoints resolved."""
    found = resolve(argv)
    with merging_rules():
        return kind(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=DEFAULTS,
            parser_kwargs={
                **parser_settings(command),
                "untrusted": found.untrusted,
                "description": DESCRIPTIONS.get(command),
            },
            parser_class=LightningParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=found.resolved,
            run=False,
            checkpoint=found.checkpoint,
        )


def run_stage(stage: str, argv: Sequence[str]) -> None:
    """Runs `fit`, `validate` or `test`."""
    cli = prepare(stage, argv)
    trainer, answers = cli.trainer, isinstance(cli.model, OctaviusModule)
    checkpoint = None if cli.checkpoint is None else cli.checkpoint.path
    if cli.checkpoint is not None:
        cli.checkpoint.check(cli.model)
        check_resumable(cli.checkpoint, trainer, cli.datamodule, stage == "fit")
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
    """Runs `import`: makes a checkpoint from another program's file, with the given configuration."""
    options, rest = convert.parser().parse_known_args(list(argv))
    if not options.file.exists():
        raise ValueError(
            f"there is no {options.file.absolute()}; name a published checkpoint or a LoRA's folder"
        )
    if options.out.exists():
        raise ValueError(f"{options.out} exists already; name another file, or remove it first")
    cli = prepare("import", rest)
    if not isinstance(cli.model, OctaviusModule):
        raise ValueError(
            f"experts are of an OctaviusModule, the configuration has a {type(cli.model).__name__}"
        )
    taken = convert.import_into(cli.model, options.file, options.base)
    cli.files.save_checkpoint(convert.start_of(cli.model), options.out)
    print(
        f"{shown(options.out)}: {taken}\nnext: octavius fit --ckpt {named(options.out)}, or test, or predict"
    )


def run_interference(argv: Sequence[str]) -> None:
    """Runs `interference`: measures a checkpoint on its training samples and writes a report."""
    options, rest = lab.parser().parse_known_args(list(argv))
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
            print(f"      tensorboard --logdir {trainer.logger.save_dir}")


def worth_reading(record: logging.LogRecord) -> bool:
    """Logging filter that drops Lightning's tips, and its copy of an error that is reported in full at the end."""
    text = record.getMessage()
    return "Tip:" not in text and "was raised with message" not in text
