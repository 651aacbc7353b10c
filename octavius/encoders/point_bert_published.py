"""Imports published weights of Point-BERT, ULIP or ULIP-2 into a `PointBERT`."""

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from octavius.checkpoint_format.bounds import check_torch_file
from octavius.encoders.point_bert import PointBERT

CONTAINERS = ("base_model", "state_dict")
"""Key of the state dict in a file: Point-BERT's releases, ULIP's releases."""

PARALLEL = "module."
"""Prefix that distributed training puts before every name."""

HOMES = ("point_encoder.", "transformer_q.", "")
"""Prefix of the encoder: ULIP and ULIP-2, Point-BERT's pre-training, its fine-tuning."""

PROJECTION = "pc_projection"
"""ULIP's projection to CLIP's space, which is not part of the encoder."""


def import_published(path: Path | str, model: PointBERT) -> list[str]:
    """Loads the weights of a published file into an encoder of the same sizes.

        model = PointBERT(channels=3, num_points=8192, projection_width=512)    # ULIP-1
        model = PointBERT(channels=6, depth=18, num_points=10000, projection_width=1280)    # ULIP-2
        import_published("pointbert_ULIP-2.pt", model)
        save_point_bert(model, "checkpoints/ulip2")

    The file is read with `weights_only`; no code in it is run. ULIP's own CLIP, also in the file, is ignored;
    so is its projection if the model has none.

    Args:
        path: `Point-BERT.pth`, `pointbert_ULIP-1.pt`, or the like.
        model: the encoder to fill; unchanged if an error is raised.

    Returns:
        Names of tensors that the file does not have and which are unchanged: `projection`, or none.

    Raises:
        ValueError: the file does not exist, is of another kind, or has other sizes.
    """
    tensors = _tensors(Path(path))
    home = next((home for home in HOMES if f"{home}cls_token" in tensors), None)
    if home is None:
        found = ", ".join(sorted({name.split(".")[0] for name in tensors})[:8]) or "nothing"
        raise ValueError(f"{path} holds no Point-BERT: expected a tensor 'cls_token', found {found}")
    inside = {name.removeprefix(home): part for name, part in tensors.items() if name.startswith(home)}
    wanted = model.state_dict()
    given = {name: part for name, part in inside.items() if name in wanted and name != "projection"}
    if PROJECTION in tensors and "projection" in wanted:
        given["projection"] = tensors[PROJECTION]
    if said := _differences(wanted, given, inside):
        raise ValueError(f"{path} holds a Point-BERT of other sizes than this one: {said}")
    model.load_state_dict(wanted | given)
    return sorted(wanted.keys() - given.keys())


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without container and prefix."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # ULIP stores its arguments as well
            check_torch_file(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no file at {path}; download a release of Point-BERT or ULIP and name it") from None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{path} cannot be read as published weights: it is cut short, of another kind, or holds more than "
            f"tensors and plain values ({reason})"
        ) from None
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected named tensors")
    return {
        str(name).removeprefix(PARALLEL): part for name, part in content.items() if isinstance(part, Tensor)
    }


def _differences(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], inside: Mapping[str, Tensor]
) -> str:
    """What does not match, in words; empty if everything does.

    Args:
        wanted: the model's tensors.
        given: the file's tensors with names of the model.
        inside: all tensors under the encoder's prefix, including heads, which are ignored, and blocks that
            the model does not have.
    """
    missing = [name for name in wanted if name not in given and name != "projection"]
    parts = {name.split(".")[0] for name in wanted}
    unknown = [name for name in inside if name not in given and name.split(".")[0] in parts]
    shapes = [
        f"{name} is {tuple(part.shape)} in the file and {tuple(wanted[name].shape)} here"
        for name, part in given.items()
        if part.shape != wanted[name].shape
    ]
    said = [
        f"{len(names)} {what}, the first is {names[0]}"
        for what, names in (("tensors are missing in the file", missing), ("more are in the file", unknown))
        if names
    ]
    said += [f"{len(shapes)} differ in shape, the first: {shapes[0]}"] if shapes else []
    return "; ".join(said)
