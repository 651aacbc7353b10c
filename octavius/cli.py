"""A command line comes in, model and data are joined and run: `octavius fit | validate | test | predict | miniature`."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import CLI
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import datamodules.alignment
import datamodules.images
import datamodules.language  # noqa: F401 - importing the data modules makes their short names legal in YAML
import octavius.alignment
import octavius.encoders.image
import octavius.encoders.precomputed
import octavius.training  # noqa: F401 - likewise for the models and encoders
from datamodules.miniature.files import build
from octavius.callbacks.evaluation import Evaluation
from octavius.callbacks.pictures import AnswerSamples
from octavius.callbacks.routing import RoutingReport
from octavius.callbacks.throughput import Throughput
from octavius.demo import predict
from octavius.presets import find_checkpoint, find_config
from octavius.weights import read_checkpoint

COMMANDS: dict[str, Callable[..., Any]] = {"predict": predict, "miniature": build}
"""Commands that are plain functions; all others are Lightning's."""

DEFAULTS = {
    "logger": {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "runs", "name": "octavius"}},
    "use_distributed_sampler": False,  # the data modules plan for every rank themselves
    "gradient_clip_val": 1.0,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
}

NOT_ASKED = ("ckpt_path", "config", "subcommand")


class OctaviusCLI(LightningCLI):
    """LightningCLI with Octavius' callbacks, name look-up, and the configuration kept beside the checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the callbacks, and gives the model's processor to the data."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
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
            "model", "data.init_args.processor", compute_fn=attrgetter("processor"), apply_on="instantiate"
        )

    def _parse_ckpt_path(self) -> None:
        """Nothing: hyper-parameters of a checkpoint must not override YAML or command line without a word."""

    def before_fit(self) -> None:
        """Keeps the resolved configuration beside the checkpoint, where `test --ckpt` finds it."""
        if self.trainer.is_global_zero:
            place = self._checkpoint().with_suffix(".yaml")
            place.parent.mkdir(parents=True, exist_ok=True)
            config = self.config["fit"].clone()
            for key in NOT_ASKED:
                config.pop(key, None)
            text = self._parser("fit").dump(config, skip_none=False, skip_link_targets=True)
            place.write_text(text, encoding="utf-8")

    def after_fit(self) -> None:
        """Says what lies where, and what to run next."""
        if self.trainer.is_global_zero and self.trainer.state.finished:
            name = self._checkpoint()
            print(
                f"\nlogs, predictions and tables: {self.trainer.log_dir}\ncheckpoint: {name}\n"
                f"next: octavius test --ckpt {name.name if str(name.parent) == 'checkpoints' else name}\n"
                f"      tensorboard --logdir {Path(str(self.trainer.log_dir)).parts[0]}"
            )

    def _checkpoint(self) -> Path:
        config = self.config["fit"]["checkpoint"]
        return Path(config.dirpath) / f"{config.filename}.ckpt"


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends with one message and status 2.

    Args:
        args: words of the command line; those of the process when not given.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        run(words)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"octavius: error: {message(error)}") from None


def run(words: list[str]) -> None:
    """Runs one command and lets its errors through."""
    if words and words[0] in COMMANDS:
        CLI(COMMANDS[words[0]], args=resolve(words)[1:], prog=f"octavius {words[0]}")
        return
    torch.set_float32_matmul_precision("high")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_reading)
    OctaviusCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        seed_everything_default=0,
        trainer_defaults={
            **DEFAULTS,
            "callbacks": [Throughput(), RoutingReport(), AnswerSamples(), LearningRateMonitor("step")],
        },
        args=resolve(words),
    )


def resolve(words: Sequence[str]) -> list[str]:
    """Fills in names: presets, checkpoints, and the configuration saved beside a checkpoint as the lowest one.

    Precedence: command line, then `--config` files (the last wins), then the checkpoint's own, then defaults.

    Raises:
        ValueError: a preset or checkpoint that is not there; a checkpoint that cannot be read.
    """
    out: list[str] = []
    saved: Path | None = None
    pending = list(words)
    while pending:
        word = pending.pop(0)
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-c", "--ckpt", "--ckpt_path"):
            value = value if equals else (pending.pop(0) if pending else "")
            if flag in ("--config", "-c"):
                out += ["--config", str(find_config(value))]
                continue
            path = find_checkpoint(value)
            read_checkpoint(path)
            beside = [place for place in (path.with_suffix(".yaml"), path.parent / "config.yaml") if place.is_file()]
            saved = beside[0] if beside else None
            out += ["--ckpt_path" if words[0] not in COMMANDS else "--ckpt", str(path)]
        else:
            out.append(word)
    if saved is not None and words[0] not in COMMANDS:
        out[1:1] = ["--config", str(saved)]
    return out


def worth_reading(record: logging.LogRecord) -> bool:
    """Drops Lightning's advertisement, and its copy of an error that is told in full at the end."""
    text = record.getMessage()
    return "Tip:" not in text and "was raised with message" not in text


def message(error: Exception) -> str:
    """The words of an error; of one that crossed a data worker, only what was said there."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rsplit("\n", 1)[0] if text.endswith("\n") else text
        kind = type(error).__name__
        text = text.rpartition(f"{kind}: ")[2]
    if "Union subtypes" in text:  # jsonargparse wraps what a constructor said into its own report
        said = [line[4:] for line in text.splitlines() if line.startswith("  - ") and "NoneType" not in line]
        text = "\n".join(said) or text
    return text.strip()


