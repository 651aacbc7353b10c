"""LightningCLI with Octavius' callbacks and checkpoint files."""

import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datamodules.base import InstructionDataModule
from datamodules.source_instructions import check_folders
from octavius.callbacks.cost import Cost
from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.left_out import LeftOutSamples
from octavius.callbacks.moving_averages import MovingAverages
from octavius.callbacks.pictures import AnswerSamples
from octavius.callbacks.position import Position
from octavius.callbacks.progress import Progress, ProgressLines
from octavius.callbacks.routing import RoutingReport
from octavius.callbacks.run_record import RunRecord
from octavius.callbacks.stopping import Stopping
from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.checkpoint.saving import Checkpoint, CheckpointFiles
from octavius.cli.arguments import called, resolve
from octavius.cli.messages import quieten
from octavius.cli.trainer_options import check_trainer
from octavius.configuration.functions import parser_settings
from octavius.configuration.parser import LightningParser
from octavius.configuration.rules import merging_rules
from octavius.distributed.fsdp2 import watch_processes
from octavius.distributed.precision import supported_precision
from octavius.errors import readable
from octavius.instruction.batch import Processor
from octavius.presets import find_checkpoint
from octavius.training import OctaviusModule

DESCRIPTIONS = {
    "fit": "Train a model, evaluate it after each epoch and keep a checkpoint. Name a configuration and change what "
    "you like: octavius fit --config 2d.yaml --trainer.max_epochs 2. Options of a class are listed by, for "
    "instance, --model.help OctaviusModule or --config 2d.yaml --data.help.",
    "validate": "Evaluate a checkpoint on its validation sets: octavius validate --ckpt last.ckpt",
    "test": "Evaluate a checkpoint on its test sets, octavius test --ckpt last.ckpt; or answer benchmarks, as in the "
    "paper's tables, octavius test --ckpt last.ckpt --benchmarks 2d",
}
"""What their --help begins with."""

DEFAULTS = {
    "logger": {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "runs", "name": "octavius"}},
    "use_distributed_sampler": False,  # the data modules' own sampler divides the samples among the ranks
    "gradient_clip_val": 1.0,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
}


READ_BY = {"fit": ("train", "validate"), "validate": ("validate",)}
"""Sources of the data section that each command reads; `test` may read benchmarks of another folder instead."""


class OctaviusCLI(LightningCLI):
    """LightningCLI with Octavius' callbacks and checkpoint files; instantiates everything, runs nothing."""

    files: CheckpointFiles

    def __init__(
        self, *args: Any, checkpoint: OpenCheckpoint | None, argv: Sequence[str], **options: Any
    ) -> None:
        """Parses the arguments and instantiates the classes.

        Args:
            args: see `LightningCLI`.
            checkpoint: the checkpoint that the arguments name.
            argv: the arguments before names in them were resolved, for the record of the run.
            options: see `LightningCLI`.
        """
        self._opened, self._argv = checkpoint, argv
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

    def instantiate_classes(self) -> None:
        """Checks the folders of the data that the command reads, then instantiates model, data and trainer."""
        if stages := READ_BY.get(self._argv[0]):
            check_folders(self.config["data"].as_dict(), stages)
        super().instantiate_classes()

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
            RunRecord(
                self._argv, text, self.config["seed_everything"], None if opened is None else opened.path
            ),
            *listed(asked["callbacks"]),
            MovingAverages(),
            Cost(),
            RoutingReport(),
            AnswerSamples(),
            LeftOutSamples(),
        ]
        callbacks += [LearningRateMonitor("step")] if asked["logger"] else []
        # Not a setting of the trainer: a saved configuration should not depend on where the output went.
        on_terminal = sys.stdout.isatty()
        if asked["enable_progress_bar"] is not False:
            callbacks.append(Progress() if on_terminal else ProgressLines())
            options["enable_progress_bar"] = on_terminal
        options["enable_model_summary"] = False  # `prepare` prints a line instead
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


def prepare(stage: str, argv: Sequence[str]) -> OctaviusCLI:
    """Builds model, data and trainer from the arguments, and silences warnings about intended behaviour."""
    torch.set_float32_matmul_precision("high")
    quieten()
    cli = parse(OctaviusCLI, stage, argv)
    # Some pretraining models are built from the data, and have no parameters yet.
    if cli.trainer.is_global_zero and stage == "fit" and any(True for _ in cli.model.parameters()):
        print(sizes(cli.model))
    if isinstance(cli.datamodule, InstructionDataModule):  # it restores its position within an epoch itself
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
    return cli


def sizes(model: L.LightningModule) -> str:
    """The number of parameters, and how many of them are trained."""
    counts = [(part.numel(), part.requires_grad) for part in model.parameters()]
    total, trained = sum(count for count, _ in counts), sum(count for count, trains in counts if trains)
    share = f"{trained / 1e6:,.2f} M ({trained / total:.1%})"
    return f"model: {total / 1e6:,.1f} M parameters, of which {share} are trained"


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
            argv=[command, *argv],
        )
