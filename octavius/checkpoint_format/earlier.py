"""Former names in checkpoints and configurations of earlier versions: classes, and the state of data modules."""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "datamodules.pretraining.alignment.MiniaturePairs": "datamodules.miniature.pretraining.alignment.MiniaturePairs",
    "datamodules.pretraining.language.WorldLanguage": "datamodules.miniature.pretraining.language.WorldLanguage",
    "datamodules.pretraining.room_views.RoomViews": "datamodules.miniature.pretraining.room_views.RoomViews",
    "datamodules.pretraining.rooms_language.RoomsLanguage": (
        "datamodules.miniature.pretraining.rooms_language.RoomsLanguage"
    ),
    "octavius.callbacks.checkpoint.Checkpoint": "octavius.checkpoint.saving.Checkpoint",
    "octavius.callbacks.scoring.answers.Sampling": "octavius.evaluation.answers.Sampling",
    "octavius.decoder.Decoder": "octavius.decoder.decoder.Decoder",
    "octavius.lora_moe.LoRAMoE": "octavius.lora_moe.LoRAMoEConfig",
    "octavius.strategies.FSDP2": "octavius.distributed.fsdp2.FSDP2",
}
"""Former dotted paths of classes to the current ones."""

WRITERS = {
    "datamodules.images.ImageInstructions": "datamodules.miniature.data.MiniatureImages",
    "datamodules.clouds.CloudInstructions": "datamodules.miniature.data.MiniatureClouds",
    "datamodules.pretraining.objects.Objects": "datamodules.miniature.pretraining.objects.MiniatureObjects",
    "datamodules.pretraining.scene_boxes.SceneBoxes": (
        "datamodules.miniature.pretraining.scene_boxes.MiniatureSceneBoxes"
    ),
}
"""Data modules that had an option `miniature`, to those that write the miniature and then read it."""

OPTION = "miniature"

RENAMED_OPTIONS = {"datamodules.miniature.convention_data.Conventions": {"told": "cue"}}
"""Dotted paths of classes to former names of their options, with the current ones."""


def short(path: str) -> str:
    """The name of a class without its module."""
    return path.rpartition(".")[2]


def current_classes(value: Any) -> Any:
    """A section of a saved configuration with the current names of its classes.

    >>> images = "datamodules.images.ImageInstructions"
    >>> current_classes({"class_path": images, "init_args": {"root": "data", "miniature": True}})
    {'class_path': 'datamodules.miniature.data.MiniatureImages', 'init_args': {'root': 'data'}}
    >>> current_classes({"strategy": "octavius.strategies.FSDP2"})
    {'strategy': 'octavius.distributed.fsdp2.FSDP2'}
    """
    if isinstance(value, str):
        return MOVED.get(value, value)
    if isinstance(value, list):
        return [current_classes(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    section = {name: current_classes(item) for name, item in value.items()}
    path, options = section.get("class_path"), section.get("init_args")
    if path in WRITERS and isinstance(options, dict) and OPTION in options:
        writes = options[OPTION]
        section["init_args"] = {name: item for name, item in options.items() if name != OPTION}
        section["class_path"] = WRITERS[path] if writes else path
    renamed = RENAMED_OPTIONS.get(str(path), {})
    if renamed and isinstance(options, dict):
        section["init_args"] = {renamed.get(name, name): item for name, item in options.items()}
    return section


def option_hint(owner: str, option: str) -> str:
    """What replaced a former option of a data module; empty for any other option.

    Args:
        owner: short name of the class that does not have the option, if it is known.
        option: name of the option, or a flag that ends in it.
    """
    name = option.rpartition(".")[2].partition("=")[0].lstrip("-")
    for path, renamed in RENAMED_OPTIONS.items():
        if owner == short(path) and name in renamed:
            return f"; it is called {renamed[name]} now"
    if name != OPTION:
        return ""
    new = {short(old): short(path) for old, path in WRITERS.items()}
    if owner in new:
        return f"; class_path: {new[owner]} writes the miniature and then reads it, {owner} reads only"
    return f"; the data modules that write the miniature are {', '.join(new.values())}"


def current_states(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint whose position in the data is found by either class, the one that writes and the one that reads.

    Lightning keeps the state of a data module under the name of its class.
    """
    pairs = [(short(old), short(new)) for old, new in WRITERS.items()]
    both = pairs + [(new, old) for old, new in pairs]
    return {
        **checkpoint,
        **{to: checkpoint[of] for of, to in both if of in checkpoint and to not in checkpoint},
    }
