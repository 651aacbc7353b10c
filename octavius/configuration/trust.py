"""What a configuration that came with a checkpoint or an export may name, unless the user says `--trust`.

A `class_path` runs code: its module is imported and the class is called with the arguments that stand beside it, and
parameters that are functions take dotted names too. What users write themselves may name anything. A configuration
that lies beside a checkpoint was written by whoever made the checkpoint, so it may name only the classes listed here:
those of Octavius, and those of Lightning that call no function of the configuration's choice and use no network.
Encoders and gates of Octavius need no listing, since their base class tells what they are. The check comes before
anything is imported but modules of Octavius.

Beyond that, such a configuration decides what any configuration does: which folders of this machine are read as data
and weights, and where logs, checkpoints and decoders are written. It cannot name an address on the network.
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

TRUST = "--trust"

LISTED = {
    "datamodules.clouds": ("CloudInstructions",),
    "datamodules.miniature.convention_data": ("Conventions",),
    "datamodules.images": ("ImageInstructions",),
    "datamodules.mixed": ("MixedInstructions", "Passes"),
    "datamodules.pretraining.alignment": ("MiniaturePairs",),
    "datamodules.pretraining.language": ("WorldLanguage",),
    "datamodules.pretraining.objects": ("Objects", "ObjectSource"),
    "datamodules.pretraining.room_views": ("RoomViews",),
    "datamodules.pretraining.rooms_language": ("RoomsLanguage",),
    "datamodules.pretraining.scene_augmentation": ("Augmentation",),
    "datamodules.pretraining.scene_boxes": ("SceneBoxes",),
    "datamodules.sources": ("Source",),
    "octavius.callbacks.checkpoint": ("Checkpoint",),
    "octavius.callbacks.cost": ("Cost",),
    "octavius.callbacks.evaluation": ("Evaluation",),
    "octavius.callbacks.pictures": ("AnswerSamples",),
    "octavius.callbacks.progress": ("Progress",),
    "octavius.callbacks.routing": ("RoutingReport",),
    "octavius.callbacks.scoring.answers": ("Sampling",),
    "octavius.callbacks.stopping": ("Stopping",),
    "octavius.callbacks.throughput": ("Throughput",),
    "octavius.decoder": ("Decoder",),
    "octavius.encoders.detector.detector": ("Design",),
    "octavius.encoders.point_bert": ("PointBERT",),
    "octavius.encoders.rois.object_as_scene": ("ReaderSizes",),
    "octavius.instruction.prompt": ("Template",),
    "octavius.lora_moe": ("LoRAMoE",),
    "octavius.pretraining.clip": ("AlignmentModule",),
    "octavius.pretraining.detector": ("DetectorModule",),
    "octavius.pretraining.points": ("PointAlignmentModule",),
    "octavius.pretraining.views": ("ViewAlignmentModule",),
    "octavius.strategies": ("FSDP2",),
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
"""Module to the classes in it; not what lies below or beside them."""

KINDS: tuple[type, ...] = (Encoder, Gate)
"""Classes of Octavius' own that a configuration may name for what they are: whatever is derived from one of these."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
"""How an address begins that Lightning or fsspec would connect to; `C:` and `a: b` are none."""


ADVICE = "read it, and add --trust if you trust who wrote it, since what it names can run any code"


@cache
def names() -> frozenset[str]:
    """Dotted names of the listed classes: as listed, and of the module that defines each."""
    known = set()
    for module, classes in LISTED.items():
        for name in classes:
            found = getattr(import_module(module), name)
            known |= {f"{module}.{name}", f"{found.__module__}.{found.__qualname__}"}
    return frozenset(known)


@cache
def is_ours(path: str) -> bool:
    """Whether a dotted name is that of a class of Octavius' own of one of the `KINDS`.

    Only modules of Octavius are imported to find out.
    """
    module, _, name = path.rpartition(".")
    if not module.startswith("octavius.") or find_module(module) is None:
        return False
    found = vars(import_module(module)).get(name)
    return isinstance(found, type) and issubclass(found, KINDS) and found.__module__.startswith("octavius.")


def find_module(name: str) -> ModuleSpec | None:
    """Where a module lies; None if there is none."""
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # what stands before the last dot is no package
        return None


@contextmanager
def only_listed(source: str, content: Any) -> Iterator[None]:
    """In this block jsonargparse imports listed classes only.

    Args:
        source: where it stands, for messages.
        content: what it says.

    Raises:
        ValueError: it names anything else.
    """
    if address := first_address(content):
        raise ValueError(f"{source} names the address {address!r:.80}, and came with a checkpoint; {ADVICE}")
    denied: list[str] = []

    def check(path: str) -> None:
        if path not in names() and not is_ours(path):
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
    if denied:  # also where the parser went on with another type that the value may have
        raise ValueError(
            f"{source} names {denied[0]}, and came with a checkpoint, whose configuration may name listed classes "
            f"only; {ADVICE}"
        )


def first_address(content: Any) -> str | None:
    """An address on the network that stands anywhere in a configuration."""
    if isinstance(content, str):
        return content if ADDRESS.match(content.strip()) else None
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return next((found for part in parts if (found := first_address(part))), None)
