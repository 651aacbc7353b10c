"""Imports published weights of FCAF3D and TR3D.

Each detector has two families of files, with different names for the same tensors: those of the authors
(SamsungLabs/fcaf3d, SamsungLabs/tr3d), and those of MMDetection3D, which differ from ours in prefixes only.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from octavius.checkpoint_format.bounds import check_torch_file
from octavius.encoders.detector.detector import Detector

RENAMED = (
    (r"^module\.", ""),
    (r"^(neck_with_head|bbox_head|neck)\.", "head."),
    (r"^backbone\.conv1\.0\.", "backbone.conv1."),
    (r"^backbone\.conv1\.1\.", "backbone.norm1."),
    (r"^head\.(centerness_conv|center_conv)\.", "head.conv_center."),
    (r"^head\.(reg_conv|bbox_conv)\.", "head.conv_reg."),
    (r"^head\.cls_conv\.", "head.conv_cls."),
)
"""Renaming rules, applied in order."""

SHOWN = 5


def import_published(path: Path, model: Detector) -> None:
    """Loads the weights of a published file into a detector.

    The detector must have the file's sizes, which are the defaults, and its classes in the file's order; for
    ScanNet those of `datamodules.benchmarks.clouds.scannet.DETECTION_CLASSES`.

    Raises:
        ValueError: the file does not exist, holds no weights, or weights with other names or shapes; the
            message names some.
    """
    found = renamed(_tensors(path))
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    missing, strange = [*wanted.keys() - found.keys()], [*found.keys() - wanted.keys()]
    other = [
        f"{name} {tuple(found[name].shape)} for {shape}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    if missing or strange or other:
        reasons = [
            f"{len(names)} {what}: {', '.join(sorted(names)[:SHOWN])}{', ..' if len(names) > SHOWN else ''}"
            for what, names in (("missing", missing), ("unknown", strange), ("of another size", other))
            if names
        ]
        raise ValueError(
            f"{path} does not hold the weights of this {model.detector} with {len(model.classes)} classes: "
            f"{'; '.join(reasons)}. Choose the detector, its design and its classes as the file's were"
        )
    model.load_state_dict(found)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names."""
    return {our_name(name): value for name, value in tensors.items()}


def our_name(name: str) -> str:
    """Our name of a tensor of either family.

    >>> our_name("neck_with_head.reg_conv.kernel")
    'head.conv_reg.kernel'
    """
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of mmcv or mmengine, or of a bare state dict."""
    try:
        check_torch_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no file of published weights at {path}") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} holds no weights that can be read safely ({reason}); if other objects are stored with the "
            "weights, save its `state_dict` alone"
        ) from None
    tensors = content.get("state_dict", content) if isinstance(content, dict) else {}
    kept = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not kept:
        raise ValueError(
            f"{path} holds no weights; expected a dictionary of tensors, or one under 'state_dict'"
        )
    return kept
