"""Unless `--trust` is given, restricts the classes in configurations that came with a checkpoint or an export.

A `class_path` runs code: its module is imported and the class is called with the given `init_args`; parameters that
take functions accept dotted names too. Configurations that users write may name anything. One beside a checkpoint was
written by whoever made the checkpoint, so it may name only the classes listed here: those of Octavius, and those of
Lightning that call no function chosen by the configuration and use no network. Encoders and gates of Octavius are
allowed by their base class. The check comes before any import but those of listed and Octavius modules.

Otherwise such a configuration has the same powers as any other: it chooses which local folders are read as data and
weights, and where logs, checkpoints and decoders are written. It cannot name a network address, but a hub id and an
open_clip tag are none: with such names, `Decoder` and `ImageEncoder` may download weights.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from jsonargparse import _common, _typehints, _util

from octavius.encoders.base import Encoder
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.factory import class_path

TRUST = "--trust"

LISTED = {
    "datamodules.clouds": ("CloudInstructions",),
    "datamodules.images": ("ImageInstructions",),
    "datamodules.miniature.convention_data": ("Conventions",),
    "datamodules.miniature.data": ("MiniatureClouds", "MiniatureImages"),
    "datamodules.miniature.pretraining.alignment": ("MiniaturePairs",),
    "datamodules.miniature.pretraining.language": ("WorldLanguage",),
    "datamodules.miniature.pretraining.objects": ("MiniatureObjects",),
    "datamodules.miniature.pretraining.room_views": ("RoomViews",),
    "datamodules.miniature.pretraining.rooms_language": ("RoomsLanguage",),
    "datamodules.miniature.pretraining.scene_boxes": ("MiniatureSceneBoxes",),
    "datamodules.mixed": ("MixedInstructions", "Passes"),
    "datamodules.pretraining.objects": ("Objects", "ObjectSource"),
    "datamodules.pretraining.scene_augmentation": ("Augmentation",),
    "datamodules.pretraining.scene_boxes": ("SceneBoxes",),
    "datamodules.sources": ("Source",),
    "octavius.callbacks.cost": ("Cost",),
    "octavius.callbacks.evaluation": ("Evaluation",),
    "octavius.callbacks.moving_averages": ("MovingAverages",),
    "octavius.callbacks.pictures": ("AnswerSamples",),
    "octavius.callbacks.progress": ("Progress",),
    "octavius.callbacks.routing": ("RoutingReport",),
    "octavius.evaluation.answers": ("Sampling",),
    "octavius.callbacks.stopping": ("Stopping",),
    "octavius.checkpoint.saving": ("Checkpoint",),
    "octavius.decoder.decoder": ("Decoder",),
    "octavius.decoder.vision_language": ("VisionLanguageDecoder",),
    "octavius.distributed.fsdp2": ("FSDP2",),
    "octavius.encoders.detector.detector": ("Design",),
    "octavius.encoders.point_bert": ("PointBERT",),
    "octavius.encoders.rois.object_as_scene": ("ReaderSizes",),
    "octavius.instruction.prompt": ("Template",),
    "octavius.lora_moe": ("LoRAMoEConfig",),
    "octavius.pretraining.clip": ("AlignmentModule",),
    "octavius.pretraining.detector": ("DetectorModule",),
    "octavius.pretraining.points": ("PointAlignmentModule",),
    "octavius.pretraining.views": ("ViewAlignmentModule",),
    "octavius.training": ("OctaviusModule",),
    "lightning.pytorch.callbacks": (
        "DeviceStatsMonitor",
        "EarlyStopping",
        "GradientAccumulationScheduler",
        "LearningRateMonitor",
        "ModelCheckpoint",
        "ModelSummary",
        "OnExceptionCheckpoint",
        "RichModelSummary",
        "RichProgressBar",
        "StochasticWeightAveraging",
        "TQDMProgressBar",
        "Timer",
    ),
    "lightning.pytorch.loggers": ("CSVLogger", "TensorBoardLogger"),
    "lightning.pytorch.profilers": ("AdvancedProfiler", "PyTorchProfiler", "SimpleProfiler"),
    "lightning.pytorch.strategies": (
        "DDPStrategy",
        "FSDPStrategy",
        "ModelParallelStrategy",
        "SingleDeviceStrategy",
    ),
}
"""Allowed classes by module; nothing else of these modules, besides subclasses of `ALLOWED_BASES`."""

ALLOWED_BASES: tuple[type, ...] = (Encoder, Gate)
"""Base classes whose subclasses inside Octavius are all allowed."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
"""Start of an address that Lightning or fsspec would connect to (`scheme://` or chained `scheme::`); not `C:`."""

ADVICE = "read it, and add --trust if you trust who wrote it, since what it names can run any code"


@cache
def is_listed(path: str) -> bool:
    """Whether a dotted path is a listed class, as listed or as defined (a class may be re-exported).

    Imports only the listed modules that have a class of this name.
    """
    name = path.rpartition(".")[2]
    return any(
        path in (f"{module}.{name}", class_path(getattr(import_module(module), name)))
        for module, classes in LISTED.items()
        if name in classes
    )


@cache
def is_octavius_subclass(path: str) -> bool:
    """Whether a dotted path is a class defined in Octavius and derived from one of `ALLOWED_BASES`.

    Imports modules of Octavius alone.
    """
    module, _, name = path.rpartition(".")
    if not module.startswith("octavius.") or find_module(module) is None:
        return False
    found = vars(import_module(module)).get(name)
    return (
        isinstance(found, type)
        and issubclass(found, ALLOWED_BASES)
        and found.__module__.startswith("octavius.")
    )


def find_module(name: str) -> ModuleSpec | None:
    """Spec of a module; None if there is none."""
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # its parent is not a package
        return None


@contextmanager
def only_listed(source: str, content: Any) -> Iterator[None]:
    """Context manager in which jsonargparse imports allowed classes only.

    Args:
        source: where the configuration is from, for messages.
        content: the parsed configuration.

    Raises:
        ValueError: it names another class or a network address.
    """
    if address := first_address(content):
        raise ValueError(f"{source} names the address {address!r:.80}, and came with a checkpoint; {ADVICE}")
    denied: list[str] = []

    def check(path: str) -> None:
        if not is_listed(path) and not is_octavius_subclass(path):
            denied.append(path)
            raise _common.ImportDenied(f"{path} is not listed")

    try:
        with (
            patch.object(_util, "check_import_path", check),
            patch.object(_typehints, "check_import_path", check),
            patch.dict(_common.parsing_settings, {"validate_subclass_spec_in_any": True}),
        ):
            yield
    except Exception:
        if not denied:
            raise
    if denied:  # also if the parser fell back to another type of a union
        raise ValueError(
            f"{source} names {denied[0]}, and came with a checkpoint, whose configuration may name listed classes "
            f"only; {ADVICE}"
        )


def first_address(content: Any) -> str | None:
    """The first network address anywhere in a configuration, if there is one."""
    if isinstance(content, str):
        return content if ADDRESS.match(content.strip()) else None
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return next((found for part in parts if (found := first_address(part))), None)
